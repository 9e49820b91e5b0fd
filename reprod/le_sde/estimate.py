"""Strengths alpha(t), beta(t) of local elasticity from class-mean logits (spec 1.3, 1.4; equations 8 to 10).

Class means Xbar[t, k, j] are averages of logit j over those trials whose sample at iteration t has label k, so over
independent networks. A cell without a trial is NaN and stays NaN; `filled` interpolates where a derivative needs it.
Every estimate is normalised by iteration 0 (published), whose means are averages of about R/K random initialisations:
the *level* of A grows like (K/2) ln R and scatters between seeds. `baseline` normalises by the mean of the first
iterations instead; increments are comparable in either case.
"""

from __future__ import annotations

import numpy as np

from .drift import amplitudes, gaps

Array = np.ndarray
TAIL = 1000


def class_means(logits: Array, labels: Array, classes: int) -> tuple[Array, Array]:
    """Means (T, K, K) float64 over trials, NaN where no trial has that label, and how many had it (T, K).

    logits (R, T, K); labels (R, T).
    """
    trials, steps, width = logits.shape
    total, count = np.zeros((steps, classes, width)), np.zeros((steps, classes), dtype=np.int64)
    for r in range(trials):  # one trial at a time: memory-mapped logits never lie in memory as a whole
        at = np.arange(steps), np.asarray(labels[r], dtype=np.int64)
        count[at] += 1
        total[at] += logits[r]
    with np.errstate(invalid="ignore"):
        return np.where(count[..., None] > 0, total / count[..., None], np.nan), count


def filled(series: Array) -> Array:
    """A series (T, ...) with NaN and infinities replaced by linear interpolation along the first axis."""
    flat = series.reshape(len(series), -1).astype(float)
    t = np.arange(len(flat))
    for column in flat.T:
        good = np.isfinite(column)
        if good.any() and not good.all():
            column[~good] = np.interp(t[~good], t[good], column[good])
    return flat.reshape(series.shape)


def _start(series: Array, baseline: int) -> Array:
    """What a series is normalised by: its first value, or the mean of its first `baseline` ones."""
    first = series[:baseline]
    return np.nanmean(first, axis=0) if baseline > 1 else filled(series)[0] if np.isnan(first).any() else first[0]


def _log_ratio(now: Array, start: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.abs(now / start))


def _nanmean(values: Array) -> Array:
    """Mean over all axes but the first, without the NaN; NaN where nothing is left."""
    flat = values.reshape(len(values), -1)
    count = np.sum(~np.isnan(flat), axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, np.nansum(flat, axis=1) / count, np.nan)


def i_model(means: Array, baseline: int = 1) -> tuple[Array, Array]:
    """A, B (T,) of the I-model (equation 9), exact on solutions of equation 5:

    g0 = mean_j log|mu_j(t)/mu_j(0)|, g1 = mean_kj log|D_kj(t)/D_kj(0)|, A = g0 + (K-1) g1, B = g0 - g1,
    with the grand mean mu and the gaps D. The published baseline is one iteration.
    """
    K = means.shape[1]
    grand, gap = gaps(means)
    g0 = _nanmean(_log_ratio(grand, _start(grand, baseline)))
    g1 = _nanmean(_log_ratio(gap, _start(gap, baseline)))
    return g0 + (K - 1) * g1, g0 - g1


def l_model(means: Array, baseline: int = 1) -> tuple[Array, Array]:
    """A, B (T,) of the L-model as published, for K = 3 only (equation 10).

    x = means, class-major; a = (x0 + x4 - x6 - x7)/4 - (x1 + x2 + x3 + x5 + x6 + x7)/4 is the amplitude of mode 1 and
    f = <(2, -1, -1, -1, 2, -1, 0, 0, 0)/3, x - a d>. Exact only where Xbar(0) lies in the growing subspace; a bias that
    all logits share contaminates f.

    Raises:
        ValueError: another number of classes; `modes` works for all.
    """
    if means.shape[1] != 3:
        raise ValueError(f"the published L-estimator is written for 3 classes, not {means.shape[1]}: use modes")
    x = means.reshape(len(means), 9)
    a = (x[:, 0] + x[:, 4] - x[:, 6] - x[:, 7]) / 4 - (x[:, 1] + x[:, 2] + x[:, 3] + x[:, 5] + x[:, 6] + x[:, 7]) / 4
    d = (np.eye(3) - 1 / 3).ravel()
    f = (x - a[:, None] * d) @ (np.array([2, -1, -1, -1, 2, -1, 0, 0, 0]) / 3)
    return _from_modes(3 * _log_ratio(a, _start(a, baseline)), 3 * _log_ratio(f, _start(f, baseline)), 3)


def modes(means: Array, baseline: int = 1) -> tuple[Array, Array]:
    """A, B (T,) of the L-model for any K and any Xbar(0), by projection on its modes: exact under equation 6.

    A - B = K log|mbar(t)/mbar(0)| and A + B/(K-1) = K log(|v(t)|/|v(0)|).
    """
    K = means.shape[1]
    mbar, v = amplitudes(means)
    size = np.linalg.norm(v, axis=-1)
    start = np.asarray(np.linalg.norm(_start(v, baseline)))
    return _from_modes(K * _log_ratio(mbar, _start(mbar, baseline)), K * _log_ratio(size, start), K)


def _from_modes(L1: Array, L2: Array, K: int) -> tuple[Array, Array]:
    return (L1 + (K - 1) * L2) / K, (L2 - L1) * (K - 1) / K


ESTIMATORS = {"I": i_model, "L": l_model, "modes": modes}


def rate(integral: Array, window: int) -> Array:
    """alpha from A, beta from B: Savitzky-Golay derivative of order 2 per iteration, missing values interpolated.

    Published windows: 151 (GeoMNIST plots), 551 (CIFAR plots), 21 (simulations). A series shorter than the window takes
    the longest odd window that fits.
    """
    from scipy.signal import savgol_filter

    window = min(window, len(integral) - 1 + len(integral) % 2)
    return savgol_filter(filled(integral), window, polyorder=2, deriv=1, delta=1.0)


def rolling(series: Array, window: int = 10) -> Array:
    """Centred rolling mean, shorter at the ends: for display."""
    import pandas as pd

    return pd.Series(np.asarray(series)).rolling(window, center=True, min_periods=1).mean().to_numpy()


def tail_index(integral: Array, tail: int = TAIL) -> float:
    """r = 1 - mean over the last `tail` values of log(s A(i))/log(i + 1), s = -1 where most of them are negative
    (equation 8). Below 1 is read as separable. A(0) = 0, so r < 1 says A(T) > 1 and no more."""
    steps = len(integral)
    i = np.arange(max(1, steps - tail), steps)
    values = np.asarray(integral)[i]
    sign = -1.0 if np.sum(values < 0) > tail / 2 else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(sign * values)
    logs = np.where(np.isfinite(logs), logs, np.nan)
    return float(1 - np.nanmean(logs / np.log(i + 1))) if np.isfinite(logs).any() else float("nan")


def tail_slope(integral: Array, first: float = 0.1) -> float:
    """The exponent r of alpha ~ t^-r by least squares: 1 minus the slope of log|A| on log t over t >= first T. It
    depends on no level, but on a fit to what may be noise."""
    steps = len(integral)
    t = np.arange(max(1, int(first * steps)), steps)
    values = np.abs(np.asarray(integral)[t])
    good = np.isfinite(values) & (values > 0)
    if good.sum() < 2:
        return float("nan")
    return float(1 - np.polyfit(np.log(t[good] + 1), np.log(values[good]), 1)[0])
