"""The figures of le_sde and what the paper claims about them, a module per family."""

from reprod.analysis.le_sde import figures as figures
