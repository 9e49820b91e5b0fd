"""reprod: five papers on the dynamics of deep learning, re-run, tracked and redrawn."""

__version__ = "0.1.0"
