"""The figures of neural_ode and what the paper claims about them, a module per family.

Of the figures only the first was seen as an image by those who wrote our specification; axes and colours of the others,
and all of the supplement, are reconstructed from captions and text.
"""

from reprod.analysis.neural_ode import accuracy as accuracy
from reprod.analysis.neural_ode import adaptation as adaptation
from reprod.analysis.neural_ode import mechanism as mechanism
from reprod.analysis.neural_ode import supplement as supplement
from reprod.analysis.neural_ode import table as table
