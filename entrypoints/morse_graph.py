"""Morse graph and order retraction of a surrogate of training (Eslami et al. 2021, figures 3 and 5)."""

import sys

from reprod.jobs.launch import entry_point

main = entry_point("morse_graph")

if __name__ == "__main__":
    sys.exit(main())
