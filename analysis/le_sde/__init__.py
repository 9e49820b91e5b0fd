"""The figures of le_sde and what the paper claims about them, a module per family."""

from reprod.analysis.le_sde import (  # isort: skip  (in the paper's order)
    fork as fork,
    schematic as schematic,
    strengths as strengths,
    corruption as corruption,
    imitation as imitation,
    sample_size as sample_size,
    separation as separation,
)
