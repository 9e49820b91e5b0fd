"""Rates: straight lines through logarithms, with their confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Slope:
    """Least-squares slope with its 95 % confidence interval (Student's t over the points)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def power(x: np.ndarray, y: np.ndarray) -> Slope:
    """The exponent p of y ~ x^p. NaN where a value is not positive and finite; two points have no interval (NaN)."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 2 or not all(((z > 0) & np.isfinite(z)).all() for z in (x, y)):
        return Slope(np.nan, np.nan, np.nan)
    from scipy import stats

    fit = stats.linregress(np.log(x), np.log(y))
    freedom = len(x) - 2
    half = float(stats.t.ppf(0.975, freedom) * fit.stderr) if freedom else np.nan
    return Slope(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half)


def against_depth(depths: np.ndarray, y: np.ndarray) -> Slope:
    """The exponent p of y ~ L^p."""
    return power(np.asarray(depths), y)


def against_reference(depths: np.ndarray, y: np.ndarray, reference: int) -> Slope:
    """The exponent -p of y ~ (1/L - 1/Lref)^p: the distance to a net of finite depth Lref, whose own distance to the
    limit is of the same order."""
    slope = power(1 / np.asarray(depths) - 1 / reference, y)
    return Slope(-slope.value, -slope.high, -slope.low)


def by_time(depths: np.ndarray, y: np.ndarray, reference: int | None = None) -> list[Slope]:
    """The exponent of L at each time, y (L, time): over depths from 16, where the law is asymptotic, if there are three
    of them, else over all. With `reference`, the depth of the net that stands for the limit, as `against_reference`."""
    chosen = depths >= 16 if (depths >= 16).sum() >= 3 else depths >= 2
    if reference is None:
        return [against_depth(depths[chosen], column[chosen]) for column in y.T]
    return [against_reference(depths[chosen], column[chosen], reference) for column in y.T]


def crossings(loss: np.ndarray, levels: tuple[float, ...]) -> list[int | None]:
    """The first iteration at which the loss is below each level, None where it never is."""
    found = [np.flatnonzero(loss < level) for level in levels]
    return [int(hits[0]) if len(hits) else None for hits in found]
