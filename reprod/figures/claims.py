"""What a claim is, and how it is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean (Student's t); NaN for fewer than two values."""
    import numpy as np
    from scipy import stats

    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(np.asarray(values, dtype=float))
    mean = float(np.mean(values))
    return mean - float(half), mean + float(half)
