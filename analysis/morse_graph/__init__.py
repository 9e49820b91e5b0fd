"""The figures of morse_graph and what the paper claims about them, a module per family."""

from reprod.analysis.morse_graph import cost as cost
from reprod.analysis.morse_graph import ensembles as ensembles
from reprod.analysis.morse_graph import retractions as retractions
from reprod.analysis.morse_graph import variants as variants
