"""Rates: straight lines through logarithms, with their confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Slope:
    """Least-squares slopes with their 95 % confidence intervals (Student's t over the points); numbers, or an array
    with one for each time."""

    value: Any
    low: Any
    high: Any


def power(x: np.ndarray, y: np.ndarray) -> Slope:
    """The exponent p of y ~ x^p, y (points,) or (points, time). NaN where a value is not positive and finite, or where
    there is but one point; two points have no interval (NaN)."""
    from scipy import stats

    x, y = np.asarray(x, float), np.asarray(y, float)
    freedom = len(x) - 2
    with np.errstate(all="ignore"):  # what has no logarithm is NaN in the end
        u, v = np.log(x), np.log(y)
        u, v = u - u.mean(), v - v.mean(axis=0)
        value = u @ v / (u @ u)
        rest = np.square(v - np.multiply.outer(u, value)).sum(axis=0)
        error = np.sqrt(rest / freedom / (u @ u)) if freedom > 0 else np.full_like(value, np.nan)
        half = stats.t.ppf(0.975, max(freedom, 1)) * error
    return Slope(value, value - half, value + half)


def against_depth(depths: np.ndarray, y: np.ndarray) -> Slope:
    """The exponent p of y ~ L^p."""
    return power(np.asarray(depths), y)


def against_reference(depths: np.ndarray, y: np.ndarray, reference: int) -> Slope:
    """The exponent -p of y ~ (1/L - 1/Lref)^p: the distance to a net of finite depth Lref, whose own distance to the
    limit is of the same order."""
    slope = power(1 / np.asarray(depths) - 1 / reference, y)
    return Slope(-slope.value, -slope.high, -slope.low)


def asymptotic(depths: np.ndarray, y: np.ndarray, reference: int | None = None) -> Slope:
    """The exponent of L, y (L,) or (L, time): over depths from 16, where the law is asymptotic, if there are three of
    them, else over all. With `reference`, the depth of the net that stands for the limit, as `against_reference`."""
    chosen = depths >= 16 if (depths >= 16).sum() >= 3 else depths >= 2
    if reference is None:
        return against_depth(depths[chosen], y[chosen])
    return against_reference(depths[chosen], y[chosen], reference)


def crossings(loss: np.ndarray, levels: tuple[float, ...]) -> list[int | None]:
    """The first iteration at which the loss is below each level, None where it never is."""
    found = [np.flatnonzero(loss < level) for level in levels]
    return [int(hits[0]) if len(hits) else None for hits in found]
