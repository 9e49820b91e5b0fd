"""The figures of learning_coefficient and what the paper claims about them, a module per family."""

from reprod.analysis.learning_coefficient import figures as figures
