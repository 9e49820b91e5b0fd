"""The figures of morse_graph and what the paper claims about them, a module per family."""

from reprod.analysis.morse_graph import figures as figures
