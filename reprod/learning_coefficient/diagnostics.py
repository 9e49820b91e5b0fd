"""Has a set of chains converged? Between-chain error, R-hat, drift; all on traces of shape (chains, draws)."""

from __future__ import annotations

import math

import numpy as np


def split_r_hat(trace: np.ndarray) -> float:
    """Split R-hat (Gelman et al., Bayesian Data Analysis, 3rd ed., 11.4): near 1 once chains agree and do not drift.

    Args:
        trace: (chains, draws); every chain is cut into halves. NaN for fewer than four draws.
    """
    draws = trace.shape[1] // 2
    if draws < 2 or not len(trace):
        return math.nan
    halves = np.concatenate([trace[:, :draws], trace[:, -draws:]]).astype(np.float64)
    within = halves.var(axis=1, ddof=1).mean()
    between = halves.mean(axis=1).var(ddof=1)
    if within == 0:
        return 1.0 if between == 0 else math.inf
    return float(math.sqrt((draws - 1) / draws + between / within))


def standard_error(trace: np.ndarray) -> float:
    """Standard error of the mean over everything: between chains, or from batch means of a single chain.

    Args:
        trace: (chains, draws).
    """
    chains, draws = trace.shape
    if chains > 1:
        return float(trace.mean(axis=1).std(ddof=1) / math.sqrt(chains))
    batches = min(math.isqrt(draws), 20)
    if batches < 2:
        return math.nan
    means = trace[0, : draws // batches * batches].reshape(batches, -1).mean(axis=1)
    return float(means.std(ddof=1) / math.sqrt(batches))


def drift(trace: np.ndarray) -> tuple[float, float]:
    """Change of the mean from the third to the last quarter of the trace, and how many standard errors that is.

    The error is that of the difference, from batch means within every chain.
    """
    quarter = trace.shape[1] // 4
    if quarter < 8 or not len(trace):
        return math.nan, math.nan
    third, last = trace[:, -2 * quarter : -quarter], trace[:, -quarter:]
    change = float(last.mean() - third.mean())
    batches = min(math.isqrt(quarter), 20)
    squared = 0.0
    for part in (third, last):
        means = part[:, : quarter // batches * batches].reshape(len(trace), batches, -1).mean(axis=2)
        squared += float(means.var(axis=1, ddof=1).mean()) / (batches * len(trace))
    return change, change / math.sqrt(squared) if squared > 0 else (0.0 if change == 0 else math.inf)


def first_divergence(energy: np.ndarray, kept: np.ndarray, limit: float) -> np.ndarray:
    """Index of the first draw of each chain that is not finite, or beyond `limit` in a chain that stays there on
    average; -1 where there is none.

    Args:
        energy: ``nbeta (L_t - L_n(w*))``, (chains, draws).
        kept: those behind the burn-in. One draw may be far out, because its minibatch was; their mean may not.
        limit: energy that no stable chain has on average.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        lost = ~np.isfinite(energy)
        gone = lost | ((energy > limit) & (kept.mean(axis=1) > limit)[:, None])
    return np.where(gone.any(axis=1), gone.argmax(axis=1), -1)
