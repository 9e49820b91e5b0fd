"""The figures of residual_limit and what the paper claims about them, a module per family."""

from reprod.analysis.residual_limit import figures as figures
