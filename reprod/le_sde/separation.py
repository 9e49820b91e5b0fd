"""The phase transition of the LE-SDE itself (spec 1.3, E8): does the gap between classes outgrow their spread?

    dX_i^k = (1/K) sum_l E_kl(t) H_l Xbar^l dt + sigma dW_i^k,   alpha(t) = a t^-r, beta(t) = b t^-r, t >= 1.

All samples of a class have the same drift, so their spread grows like sigma sqrt t, while gaps grow like
exp(int (alpha - beta)/K). With c = a - b > 0: separable for r < 1, never for r > 1, and at r = 1 iff c/K > 1/2; where
c/K = 1/2 the ratio gap/spread is constant in time exactly at r = 1, so that curves of all horizons cross there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import boxcox

from .drift import amplitudes, cosines, directions, gaps, rates

Array = np.ndarray


@dataclass(frozen=True)
class Trace:
    """What one exponent gives for R systems at M times.

    times: (M,); ratio: (R, M), smallest distance of two class means over the spread (root mean square deviation per
    coordinate) within classes; cosine: (R, M), mean cosine of centred class means; features: (R, K, n, K), at the end.
    """

    times: Array
    ratio: Array
    cosine: Array
    features: Array


def simulate(
    model: str,
    exponent: float,
    *,
    alpha: float,
    beta: float,
    sigma: float,
    spread: float,
    gap: float,
    classes: int,
    samples: int,
    replicas: int,
    iterations: int,
    rng: np.random.Generator,
    points: int = 120,
) -> Trace:
    """R systems from t = 1 in unit steps, recorded at `points` geometric times; features start as N(gap u_k, spread^2),
    with the simplex directions u_k.

    Each step is exact in the drift and adds sigma N(0, 1) to every sample. Within a class only the mean moves, so means
    and deviations are kept apart and a step costs one mean; the deviations receive the noise of many steps at once.
    Means are kept by mode and relative to the grand mean, which may outgrow every gap by more than double precision.
    """
    K, n, R = classes, samples, replicas
    modes = _projections(model, alpha, beta, K)
    features = gap * directions(K)[:, None] + spread * rng.standard_normal((R, K, n, K))
    mean = features.mean(axis=2)
    within = features - mean[:, :, None]
    parts = [mean.reshape(R, -1) @ projection.T for _, projection in modes]
    times = np.unique(np.geomspace(1, iterations, points).astype(int))
    ratio, cosine = np.empty((R, len(times))), np.empty((R, len(times)))
    now = 1
    for m, end in enumerate(times):
        if end > now:
            parts = _advance(parts, now, end, exponent, modes, sigma / np.sqrt(n), rng)
            noise = rng.standard_normal(within.shape)
            within += sigma * np.sqrt(end - now) * (noise - noise.mean(axis=2, keepdims=True))
            now = end
        mean = sum(parts).reshape(R, K, K)
        ratio[:, m] = _gap(mean) / np.sqrt((within**2).sum(axis=2).mean(axis=(1, 2)) / (n - 1))
        cosine[:, m] = cosines(mean).mean(axis=1)
    return Trace(times, ratio, cosine, mean[:, :, None] + within)


def _projections(model: str, alpha: float, beta: float, K: int) -> list[tuple[float, Array]]:
    """Modes of the drift of *centred* class means, C M(1) = sum of rate times projection (K^2, K^2), where C subtracts
    the grand mean; completed to C by rate 0. One set serves all times, since M(t) = t^-r M(1)."""
    first, second = (float(rate) for rate in rates(model, np.asarray(alpha), np.asarray(beta), K))
    units = np.eye(K * K).reshape(-1, K, K)
    if model == "I":
        grand, gap = gaps(units)
        parts = gap, np.broadcast_to(grand, gap.shape)
    else:
        u = directions(K)
        mbar, v = amplitudes(units)
        second = second or 1e-12  # where it vanishes, this mode grows linearly: so does expm1(1e-12 S)/1e-12
        moved = (alpha - beta) * v[..., None] * u + beta * (v @ u)[:, None, :]
        parts = mbar[:, None, None] * u, moved / (K * second)
    P1, P2, all_of = (gaps(part)[1].reshape(K * K, K * K).T for part in (*parts, units))
    P2[np.abs(P2) < 1e-12] = 0  # exactly, where this mode moves the grand mean alone
    return [(first, P1), (second, P2), (0.0, all_of - P1 - P2)]


def _advance(
    parts: list[Array],
    first: int,
    last: int,
    r: float,
    modes: list[tuple[float, Array]],
    noise: float,
    rng: np.random.Generator,
) -> list[Array]:
    """Each mode's part (R, K^2) of the centred class means from time `first` to `last`, one unit step after another."""
    integral = np.diff(boxcox(np.arange(first, last + 1, dtype=float), 1 - r))  # of t^-r, exact also as r tends to 1
    kicks = noise * rng.standard_normal((last - first, *parts[0].shape))
    moved = []
    for part, (rate, projection) in zip(parts, modes, strict=True):
        for factor, kick in zip(np.exp(rate * integral), kicks @ projection.T, strict=True):
            part = factor * part + kick
        moved.append(part)
    return moved


def _gap(mean: Array) -> Array:
    k, m = np.triu_indices(mean.shape[1], 1)
    return np.linalg.norm(mean[:, k] - mean[:, m], axis=-1).min(axis=1)


def separable(features: Array) -> bool:
    """Whether hyperplanes part the classes (K, n, dim) perfectly, pair by pair: a linear programme each.

    A pair is separable iff some (w, b) has y_i (<w, x_i> + b) >= 1 for all its samples.
    """
    from scipy.optimize import linprog

    K, n, dim = features.shape
    scaled = features / np.abs(features).max()
    for k in range(K):
        for m in range(k):
            x = np.concatenate([scaled[k], scaled[m]])
            size = x.std(axis=0)
            x = (x - x.mean(axis=0)) / np.where(size > 0, size, 1.0)
            y = np.repeat([1.0, -1.0], n)[:, None]
            constraints = -y * np.hstack([x, np.ones((2 * n, 1))])
            found = linprog(np.zeros(dim + 1), constraints, -np.ones(2 * n), bounds=(None, None), method="highs")
            if found.status not in (0, 2):  # neither solved nor infeasible
                raise ArithmeticError(f"the linear programme of classes {m} and {k} was not solved: {found.message}")
            if found.status == 2:
                return False
    return True
