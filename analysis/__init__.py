"""Figures and claims, one module per paper: the runs that a figure needs, how it is drawn, what the paper claims."""
