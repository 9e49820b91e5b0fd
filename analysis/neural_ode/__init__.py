"""The figures of neural_ode and what the paper claims about them, a module per family."""

from reprod.analysis.neural_ode import figures as figures
