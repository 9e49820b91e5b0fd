"""The LE-ODE integrated without a step loop (spec 2.4): the flow is linear, so all starts share a few time series.

With factors 1 + lambda(i) (Euler) or exp(lambda(i)) (exponential) per step for each mode and P_1, P_2 their cumulative
products, and s, u, mbar, v as in `drift`:

    L-drift: Xbar^k(i) = Xbar^k(0) + mbar (P_1 - 1) u_k + Q_a v_k u_k + Q_b sum_l v_l u_l,
             Q_a(i) = sum_{j<=i} (alpha_j - beta_j)/K c_j P_2(j-1),  Q_b(i) = sum_{j<=i} beta_j/K c_j P_2(j-1),
             c_j = 1 (Euler) or (e^lambda_2 - 1)/lambda_2;
    I-drift: Xbar^k(i) = P_2 c_0 + P_1 c_k.

Step i = 1 ... T-1 uses the strengths at index i, as published. Euler agrees with the step loop to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .drift import amplitudes, directions, gaps, rates

Array = np.ndarray


@dataclass(frozen=True)
class Flow:
    """Xbar(i) = sum_m series[m, i] parts(Xbar(0))[m]: `series` (M, T) and the linear map `parts`, (..., K, K) to
    (M, ..., K, K)."""

    series: Array
    parts: Callable[[Array], Array]

    def __call__(self, start: Array) -> Array:
        """Solutions (..., T, K, K) from `start` (..., K, K)."""
        K = start.shape[-1]
        parts = self.parts(start).reshape(len(self.series), -1, K * K)
        solved = np.einsum("mt,mnx->ntx", self.series, parts, optimize=True)
        return solved.reshape(*start.shape[:-2], self.series.shape[1], K, K)


def build(alpha: Array, beta: Array, classes: int, *, drift: str = "L", integrator: str = "euler") -> Flow:
    """The flow of the L- or I-model under strengths alpha, beta (T,)."""
    first, second = rates(drift, alpha, beta, classes)
    first, second = (np.concatenate([[0.0], rate[1:]]) for rate in (first, second))
    if integrator == "euler":
        P1, P2 = np.cumprod(1 + first), np.cumprod(1 + second)
        filling = np.ones_like(second)
    else:
        P1, P2 = np.exp(np.cumsum(first)), np.exp(np.cumsum(second))
        filling = np.where(np.abs(second) > 1e-12, np.expm1(second) / np.where(second == 0, 1.0, second), 1.0)
    if drift == "I":

        def parts_i(start: Array) -> Array:
            grand, gap = gaps(start)
            return np.stack([np.broadcast_to(grand, start.shape), gap])

        return Flow(np.stack([P2, P1]), parts_i)
    before = np.concatenate([[0.0], P2[:-1]]) * filling / classes
    own, other = np.cumsum((alpha - beta) * before), np.cumsum(beta * before)
    u = directions(classes)

    def parts_l(start: Array) -> Array:
        mbar, v = amplitudes(start)
        shared = np.broadcast_to((v @ u)[..., None, :], start.shape)
        return np.stack([start, mbar[..., None, None] * u, v[..., None] * u, shared])

    return Flow(np.stack([np.ones_like(P1), P1 - 1, own, other]), parts_l)


def by_steps(start: Array, alpha: Array, beta: Array, drift: str = "L") -> Array:
    """The definition, one Euler step at a time: Xbar (T, K, K) from `start` (K, K). For tests and benchmarks.

    X^k(i) = X^k(i-1) + (1/K) [alpha(i) H_k X^k(i-1) + beta(i) sum_{l != k} H_l X^l(i-1)].
    """
    K = start.shape[-1]
    u = directions(K)
    H = [np.outer(u[k], u[k]) if drift == "L" else np.eye(K) for k in range(K)]
    X = np.empty((len(alpha), K, K))
    X[0] = start
    for i in range(1, len(alpha)):
        pushes = [H[k] @ X[i - 1, k] for k in range(K)]
        for k in range(K):
            others = sum(pushes[m] for m in range(K) if m != k)
            X[i, k] = X[i - 1, k] + (alpha[i] * pushes[k] + beta[i] * others) / K
    return X


def gaussian_starts(means: Array, count: int, scale: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Published starts (count, K, K), X^k(0) ~ N(0, sigma_k^2 I), and sigma_k = scale |Xbar^k(0)|/sqrt K."""
    K = means.shape[-1]
    sigma = scale * np.linalg.norm(means, axis=-1) / np.sqrt(K)
    return sigma[:, None] * rng.standard_normal((count, K, K)), sigma


def deviation(flow: Flow, sigma: Array) -> Array:
    """Standard deviation (T, K, K) over Gaussian starts, exact by linearity: the root of the summed squares of the flow
    from sigma_k times each of the K^2 unit starts."""
    K = len(sigma)
    units = np.eye(K * K).reshape(K, K, K, K) * sigma[:, None, None, None]
    return np.sqrt((flow(units.reshape(-1, K, K)) ** 2).sum(axis=0))


def tail_means(flow: Flow, starts: Array, tail: int) -> Array:
    """Means (n, K, K) over the last `tail` iterations of the solutions from `starts` (n, K, K): linear, too."""
    return Flow(flow.series[:, -tail:].mean(axis=1, keepdims=True), flow.parts)(starts)[:, 0]


def cosine(vectors: Array, other: Array) -> Array:
    """Cosines (...,) of vectors (..., K) with one vector (K,)."""
    return vectors @ other / (np.linalg.norm(vectors, axis=-1) * np.linalg.norm(other))
