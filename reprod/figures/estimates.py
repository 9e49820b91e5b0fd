"""Values with their 95 % intervals, from independent samples, all of them SciPy's: what claims decide on."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95  # of every interval; one side is wrong at most (1 - LEVEL) / 2 of the time
Samples = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, from `n` independent samples; `how` says which interval that is. `against` is how
    many published samples a prediction interval is for: their spread remains however many we add."""

    value: float
    low: float
    high: float
    n: int
    how: str
    against: float = math.inf

    @property
    def known(self) -> bool:
        return self.n >= 2 and math.isfinite(self.value) and math.isfinite(self.low) and math.isfinite(self.high)

    def shifted(self, by: float) -> Estimate:
        return dataclasses.replace(self, value=self.value + by, low=self.low + by, high=self.high + by)


def mean(samples: Samples) -> Estimate:
    """The mean of independent samples, Student's t interval. A NaN among them makes it unknown."""
    x = np.asarray(samples, dtype=float)
    low, high = interval(x)
    return Estimate(float(x.mean()) if len(x) else math.nan, low, high, len(x), "mean, Student's t")


def prediction(samples: Samples, published_n: int) -> Estimate:
    """The mean of independent samples, with the interval of its difference from the mean of `published_n` further ones:
    what a number that was published without its spread has to be compared with (both spreads count)."""
    from scipy import stats

    x = np.asarray(samples, dtype=float)
    n = len(x)
    if n < 2:
        return dataclasses.replace(mean(x), how=f"mean, prediction interval of a mean of {published_n}")
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * x.std(ddof=1) * math.sqrt(1 / n + 1 / published_n)
    value = float(x.mean())
    how = f"mean, prediction interval of a mean of {published_n}"
    return Estimate(value, value - float(half), value + float(half), n, how, published_n)


def slope(x: Samples, y: Samples) -> Estimate:
    """The slope of a least-squares line, Student's t interval with n - 2 degrees of freedom (`scipy.stats.linregress`).
    `n` counts the degrees of freedom plus one, so that two points, which any line fits, decide nothing."""
    from scipy import stats

    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0:
        return Estimate(math.nan, math.nan, math.nan, len(x), "slope, Student's t")
    fitted = stats.linregress(x, y)
    df = len(x) - 2
    half = stats.t.ppf((1 + LEVEL) / 2, df) * fitted.stderr if df > 0 else math.nan
    value = float(fitted.slope)
    return Estimate(value, value - float(half), value + float(half), df + 1, "slope, Student's t")


def bootstrap(samples: Samples, statistic: Callable[..., Any], *, resamples: int = 4999) -> Estimate:
    """Any statistic of independent samples (a median, a quantile), BCa interval (`scipy.stats.bootstrap`, one stream).
    `statistic(samples, axis)` is vectorised as NumPy's functions are."""
    from scipy import stats

    x = np.asarray(samples, dtype=float)
    how = "bootstrap, BCa"
    if len(x) < 2 or not np.isfinite(x).all():
        return Estimate(math.nan, math.nan, math.nan, len(x), how)
    value = float(statistic(x, axis=0))
    if np.ptp(x) == 0:
        return Estimate(value, value, value, len(x), how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a degenerate jackknife; what then follows is seen and mended
        for method in ("BCa", "percentile"):
            found = stats.bootstrap(
                (x,), statistic, n_resamples=resamples, rng=np.random.default_rng(0), confidence_level=LEVEL,
                method=method,
            )  # fmt: skip
            low, high = map(float, found.confidence_interval)
            if math.isfinite(low) and math.isfinite(high):  # BCa has none where every jackknifed value is the same
                break
    return Estimate(value, low, high, len(x), f"bootstrap, {method}")


def interval(samples: Samples) -> tuple[float, float]:
    """95 % confidence interval of the mean (Student's t); NaN for fewer than two values."""
    from scipy import stats

    x = np.asarray(samples, dtype=float)
    if len(x) < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * stats.sem(x))
    return float(x.mean()) - half, float(x.mean()) + half
