"""Exact learning coefficients and the closed forms the estimator is checked against; no torch, no sampling.

A deep linear network (DLN) has widths ``n_0 (input), n_1, ..., n_L (output)``, weights ``W_k`` of shape
``(n_{k-1}, n_k)`` and computes ``y = x W_1 ... W_L``. Its learning coefficient depends only on the widths and on the
rank ``r`` of the true product.

Sources: Aoyagi 2023 (deep linear networks); Aoyagi & Watanabe 2005 (two layers); Watanabe 2009 (normal crossings);
Lau et al. 2023, arXiv 2308.12108 (the estimator). What carries no source is derived in its docstring and tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class LearningCoefficient(NamedTuple):
    """A learning coefficient ``value`` and its ``multiplicity``: ``(lambda, m)``."""

    value: Fraction
    multiplicity: int


def check_widths(widths: Sequence[int], rank: int) -> tuple[int, ...]:
    """``widths`` as a tuple, once they are at least two positive integers and ``rank`` is reachable through them."""
    checked = tuple(int(n) for n in widths)
    if len(checked) < 2:
        raise ValueError(f"widths must name an input and at least one layer, got {list(widths)}")
    if any(n != original or n < 1 for n, original in zip(checked, widths, strict=True)):
        raise ValueError(f"widths must be positive integers, got {list(widths)}")
    if rank != int(rank) or not 0 <= rank <= min(checked):
        raise ValueError(f"rank must be an integer from 0 to the smallest width, {min(checked)}, got {rank}")
    return checked


def dln_dimension(widths: Sequence[int]) -> int:
    """Number of parameters ``D = sum_k n_{k-1} n_k`` of a deep linear network."""
    widths = check_widths(widths, 0)
    return sum(a * b for a, b in pairwise(widths))


def dln_learning_coefficient(widths: Sequence[int], rank: int) -> LearningCoefficient:
    """Learning coefficient and multiplicity of a deep linear network (Aoyagi 2023), in integers.

    With ``M_i = n_i - r`` in ascending order and prefix sums ``S_k``, take the smallest ``k >= 2`` with ``k = L + 1``
    or ``S_k < (k - 1) M_(k+1)``; then with ``l = k - 1``, ``a = ((S - 1) mod l) + 1`` and
    ``e2 = sum_{i<j<=k} M_(i) M_(j)``::

        lambda = (r (n_0 + n_L) - r^2)/2 + a (l - a)/(4 l) - (l - 1) S^2/(4 l) + e2/2,      m = a (l - a) + 1

    This is the smallest ``lambda(w)`` over the fibre ``{w : W_1 ... W_L = P*}``; a particular true parameter may have
    a larger local one.

    Args:
        widths: ``n_0, ..., n_L``, at least two positive integers.
        rank: rank of the true product, from 0 to ``min(widths)``.

    Raises:
        ValueError: a width is not a positive integer, or the rank cannot pass through the widths.
    """
    widths = check_widths(widths, rank)
    rank = int(rank)
    excess = sorted(n - rank for n in widths)
    k, total = 2, excess[0] + excess[1]
    while k < len(excess) and total >= (k - 1) * excess[k]:
        total += excess[k]
        k += 1
    ell = k - 1
    a = (total - 1) % ell + 1
    e2 = (total * total - sum(m * m for m in excess[:k])) // 2
    regular = Fraction(rank * (widths[0] + widths[-1]) - rank * rank, 2)
    singular = Fraction(a * (ell - a) - (ell - 1) * total * total, 4 * ell) + Fraction(e2, 2)
    return LearningCoefficient(regular + singular, a * (ell - a) + 1)


def dln_rank_profiles(widths: Sequence[int], rank: int) -> tuple[Fraction, list[tuple[int, ...]]]:
    """Learning coefficient by dynamic programming over rank profiles, with the profiles ``r_1..r_L`` that attain it.

    ``2 lambda = r (n_0 + n_L - r) + min sum_k (r_{k-1} - r_k)(n_k - r_k)`` over
    ``n_0 = r_0 >= r_1 >= ... >= r_L = r``, ``r_k <= n_k``: half the smallest codimension of the fibre when
    ``r_k = rank(W_1 ... W_k)``. It shares nothing with the closed form and so serves as its oracle. The multiplicity is
    the length of the longest component-wise chain among the minimising profiles (`longest_chain`).
    """
    widths = check_widths(widths, rank)
    last = len(widths) - 1

    @cache
    def cheapest(k: int, previous: int) -> int:
        if k > last:
            return 0 if previous == rank else 10**18
        return min(
            (previous - r) * (widths[k] - r) + cheapest(k + 1, r) for r in range(rank, min(previous, widths[k]) + 1)
        )

    def profiles(k: int, previous: int) -> Iterable[tuple[int, ...]]:
        if k > last:
            yield ()
            return
        for r in range(rank, min(previous, widths[k]) + 1):
            if (previous - r) * (widths[k] - r) + cheapest(k + 1, r) == cheapest(k, previous):
                for rest in profiles(k + 1, r):
                    yield (r, *rest)

    double = rank * (widths[0] + widths[-1] - rank) + cheapest(1, widths[0])
    return Fraction(double, 2), list(profiles(1, widths[0]))


def longest_chain(profiles: Sequence[tuple[int, ...]]) -> int:
    """Length of the longest chain ``p_1 < p_2 < ...`` in the component-wise order."""
    ordered = sorted(profiles, key=sum)
    best: list[int] = []
    for i, p in enumerate(ordered):
        below = [best[j] for j in range(i) if all(a <= b for a, b in zip(ordered[j], p, strict=True))]
        best.append(1 + max(below, default=0))
    return max(best)


def reduced_rank_learning_coefficient(inputs: int, hidden: int, outputs: int, rank: int) -> LearningCoefficient:
    """Two-layer linear network (Aoyagi & Watanabe 2005), the second oracle: input N, hidden H, output Q, rank r.

    In the balanced case ``lambda = (2(H+r)(N+Q) + 2NQ - (H+r)^2 - N^2 - Q^2)/8`` with ``m = 1`` if ``N+Q+H+r`` is even,
    else ``1/8`` more with ``m = 2``; otherwise the largest of the three sums decides.
    """
    check_widths((inputs, hidden, outputs), rank)
    n, h, q, r = inputs, hidden, outputs, rank
    if q + h < n + r:
        return LearningCoefficient(Fraction(h * q - h * r + n * r, 2), 1)
    if n + h < q + r:
        return LearningCoefficient(Fraction(h * n - h * r + q * r, 2), 1)
    if n + q < h + r:
        return LearningCoefficient(Fraction(n * q, 2), 1)
    eighths = 2 * (h + r) * (n + q) + 2 * n * q - (h + r) ** 2 - n * n - q * q
    odd = (n + q + h + r) % 2
    return LearningCoefficient(Fraction(eighths + odd, 8), 1 + odd)


def two_layer_local_learning_coefficient(widths: Sequence[int], ranks: tuple[int, int], rank: int) -> Fraction:
    """Local learning coefficient at a two-layer point with ``ranks = (rank W_1, rank W_2)``: argued, not proven.

    ``lambda = [r(n_0+n_2-r) + min_{rho_1 <= s <= min(n_0, n_1+r-rho_2)} (n_0-s)(n_1-s) + (s-r)(n_2-r)]/2``.
    It explains why an estimate at a degenerate truth may rightly exceed `dln_learning_coefficient`.
    """
    n0, n1, n2 = check_widths(widths, rank)
    rho1, rho2 = ranks
    if not (rank <= rho1 <= min(n0, n1) and rank <= rho2 <= min(n1, n2) and rho1 + rho2 - n1 <= rank):
        raise ValueError(f"no weights of ranks {ranks} with widths {list(widths)} multiply to rank {rank}")
    candidates = ((n0 - s) * (n1 - s) + (s - rank) * (n2 - rank) for s in range(rho1, min(n0, n1 + rank - rho2) + 1))
    return Fraction(rank * (n0 + n2 - rank) + min(candidates), 2)


def normal_crossing_learning_coefficient(exponents: Sequence[int]) -> LearningCoefficient:
    """``K(w) = prod_i w_i^{2 k_i}``: ``lambda = min 1/(2 k_i)`` over ``k_i > 0``, ``m`` = number of minimisers."""
    if not exponents or min(exponents) < 0 or max(exponents) < 1:
        raise ValueError(f"exponents must be non-negative with at least one positive, got {list(exponents)}")
    largest = max(exponents)
    return LearningCoefficient(Fraction(1, 2 * largest), sum(k == largest for k in exponents))


def _singular_products(weights: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """``A_k = W_1 ... W_{k-1}`` and ``B_k = W_{k+1} ... W_L`` for k = 1..L, in double precision."""
    matrices = [np.asarray(w, dtype=np.float64) for w in weights]
    before = [np.eye(matrices[0].shape[0])]
    for w in matrices[:-1]:
        before.append(before[-1] @ w)
    after = [np.eye(matrices[-1].shape[1])]
    for w in reversed(matrices[1:]):
        after.append(w @ after[-1])
    return before, after[::-1]


def numerical_rank(matrix: np.ndarray, relative_tolerance: float = 1e-9) -> int:
    """Rank of a matrix in double precision: singular values above ``relative_tolerance`` times the largest."""
    values = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    return int((values > relative_tolerance * values[0]).sum()) if values.size and values[0] > 0 else 0


def dln_functional_rank(weights: Sequence[np.ndarray], relative_tolerance: float = 1e-9) -> int:
    """Rank of the Jacobian of the network's outputs with respect to its parameters, in closed form.

    ``rank J = sum_k (u_k - u_{k+1}) v_k`` with ``u_k = rank A_k`` (``u_1 = n_0``, ``u_{L+1} = 0``),
    ``v_k = rank B_k`` (``v_L = n_L``): the tangent space is ``sum_k A_k^T (.) B_k^T``, whose ranges are nested. Holds
    for inputs that span ``R^{n_0}``. Half of it bounds the local learning coefficient from below.

    Args:
        weights: the matrices ``W_k``, each (n_{k-1}, n_k).
    """
    before, after = _singular_products(weights)
    u = [numerical_rank(a, relative_tolerance) for a in before] + [0]
    v = [numerical_rank(b, relative_tolerance) for b in after]
    return sum((u[k] - u[k + 1]) * v[k] for k in range(len(v)))


def dln_hessian_trace(weights: Sequence[np.ndarray], inputs: np.ndarray) -> float:
    """Trace of the Hessian of the mean squared error at zero residual: ``(2/n_L) sum_k ||X A_k||^2/N ||B_k||^2``.

    Args:
        weights: the matrices ``W_k``, each (n_{k-1}, n_k), of a network that fits its targets exactly.
        inputs: X, (N, n_0).
    """
    before, after = _singular_products(weights)
    x = np.asarray(inputs, dtype=np.float64)
    terms = (np.square(x @ a).sum() / len(x) * np.square(b).sum() for a, b in zip(before, after, strict=True))
    return float(2.0 / weights[-1].shape[1] * sum(terms))


def quadratic_sgld_energy(
    curvatures: Sequence[float] | np.ndarray, steps: Sequence[int] | np.ndarray, *, gamma: float, step_size: float
) -> np.ndarray:
    """Expected ``nbeta L(w_t)`` of full-gradient SGLD on a quadratic, started at its minimum: the bias formula (Q).

    For ``nbeta L = 1/2 sum_i h_i x_i^2``, ``k_i = h_i + gamma``, ``a_i = 1 - eps k_i/2``, ``v_i = 1/(k_i(1 - eps
    k_i/4))``: ``E = 1/2 sum_i h_i v_i (1 - a_i^{2t})``. It is d/2 only for gamma, eps -> 0 and t -> infinity.

    Args:
        curvatures: ``h_i``; those equal to zero do not contribute.
        steps: the times ``t`` at which the energy is wanted; the loss recorded before step ``t`` is at time ``t``.

    Returns:
        One expected energy for each time.

    Raises:
        ValueError: the chain is unstable, ``eps (h + gamma) >= 4`` for some curvature.
    """
    h = np.asarray(curvatures, dtype=np.float64)
    k = h + gamma
    if np.any(step_size * k >= 4):
        raise ValueError(
            f"unstable: step_size * (h + gamma) reaches {float((step_size * k).max()):.3g}, must be below 4"
        )
    variance = 1.0 / (k * (1.0 - step_size * k / 4.0))
    decay = 1.0 - step_size * k / 2.0
    times = np.asarray(steps, dtype=np.float64)
    return 0.5 * ((h * variance) * (1.0 - np.abs(decay) ** (2.0 * times[..., None]))).sum(-1)


def quadratic_sgld_estimate(
    curvatures: Sequence[float] | np.ndarray,
    num_steps: int | None,
    *,
    gamma: float,
    step_size: float,
    trace: str = "before",
    burn_in: float = 0.0,
) -> float:
    """What the estimator should return on a quadratic: the mean of `quadratic_sgld_energy` over the steps kept.

    Args:
        num_steps: length of the trace; None for a stationary chain.
        trace: "before" records step t at ``w_t`` (t = 0, 1, ...), "after" at ``w_{t+1}``.
        burn_in: proportion of the trace that is dropped.
    """
    if num_steps is None:
        h = np.asarray(curvatures, dtype=np.float64)
        k = h + gamma
        quadratic_sgld_energy(h, [0], gamma=gamma, step_size=step_size)
        return float(0.5 * (h / k / (1.0 - step_size * k / 4.0)).sum())
    first = math.floor(num_steps * burn_in) + (trace == "after")
    times = np.arange(first, num_steps + (trace == "after"))
    return float(quadratic_sgld_energy(curvatures, times, gamma=gamma, step_size=step_size).mean())


def staircase_curvatures(singular_values: Sequence[float], learned: int, layers: int, nbeta: float) -> np.ndarray:
    """Curvatures of ``nbeta L`` at a balanced DLN that has learned the ``learned`` largest singular values.

    ``h_ij = nbeta (2/n_L) sum_{k=1..L} s_i^{2(k-1)/L} s_j^{2(L-k)/L}`` with unlearned ``s = 0`` and ``0^0 = 1``, for
    inputs of unit covariance. Of the d^2 entries, ``r (2d - r)`` are non-zero: the other directions are invisible.

    Args:
        singular_values: the teacher's, d of them.
        learned: how many of the largest are learned, r.
        layers: number of weight matrices, L.
    """
    s = np.sort(np.asarray(singular_values, dtype=np.float64))[::-1].copy()
    if not 0 <= learned <= len(s):
        raise ValueError(f"learned must be from 0 to {len(s)}, got {learned}")
    s[learned:] = 0.0
    k = np.arange(1, layers + 1)
    left = s[:, None] ** (2 * (k - 1) / layers)
    right = s[:, None] ** (2 * (layers - k) / layers)
    return (nbeta * 2.0 / len(s) * left @ right.T).ravel()


def staircase_plateau(
    learned: int,
    *,
    singular_values: Sequence[float] = (50.0, 40.0, 30.0, 20.0, 10.0),
    layers: int = 5,
    nbeta: float,
    gamma: float = 1.0,
    step_size: float = 1e-6,
    num_steps: int = 156,
    trace: str = "after",
) -> float:
    """Expected estimate on the plateau where ``learned`` singular values are learned, step-size bias included.

    `staircase_curvatures` put through `quadratic_sgld_estimate`. The defaults are the published saddle-to-saddle runs
    (156 losses after the step): 4.84, 8.75, 11.63, 13.44, 14.27 for 1 to 5 learned.
    """
    h = staircase_curvatures(singular_values, learned, layers, nbeta)
    h = h[h > 0]
    if not h.size:
        return 0.0
    return quadratic_sgld_estimate(h, num_steps, gamma=gamma, step_size=step_size, trace=trace)


def staircase_regular_coefficient(learned: int, dimension: int = 5) -> Fraction:
    """Half the number of visible directions, ``r (2d - r)/2``: the staircase without step-size bias."""
    return Fraction(learned * (2 * dimension - learned), 2)


def staircase_loss(learned: int, singular_values: Sequence[float] = (50.0, 40.0, 30.0, 20.0, 10.0)) -> float:
    """Population loss while only the ``learned`` largest singular values are learned: ``sum_unlearned s_i^2 / d``."""
    s = np.sort(np.asarray(singular_values, dtype=np.float64))[::-1]
    return float(np.square(s[learned:]).sum() / len(s))


def bottleneck_energy(p: int, q: int, u: float) -> float:
    """``E[nbeta L]`` under the exact localised posterior of a DLN of widths ``[p, 1, q]`` at rank 0, by quadrature (B).

    With ``nbeta L = nbeta c ||W_1||^2 ||W_2||^2``, prior precision gamma and ``u = 2 nbeta c/gamma^2``, integrating
    ``W_2`` out leaves ``s = gamma ||W_1||^2 ~ chi2_p``::

        E = int q/2 * us/(1+us) * (1+us)^{-q/2} chi2_p(s) ds / int (1+us)^{-q/2} chi2_p(s) ds

    It tends to ``min(p, q)/2`` as u grows (like 1/log u when p = q, where the multiplicity is 2).
    """
    from scipy.integrate import quad

    def weight(x: float) -> float:
        # s = exp(x): the integrand spans many decades of s.
        s = math.exp(x)
        return math.exp(-0.5 * q * math.log1p(u * s) + 0.5 * p * x - 0.5 * s)

    def energy(x: float) -> float:
        us = u * math.exp(x)
        return 0.5 * q * us / (1 + us) * weight(x)

    low, high = -math.log(u) - 80.0 / p, math.log(60.0 + 10 * p)
    breaks = [-math.log(u), 0.0]
    top = quad(energy, low, high, points=breaks, limit=400, epsabs=0, epsrel=1e-10)[0]
    return top / quad(weight, low, high, points=breaks, limit=400, epsabs=0, epsrel=1e-10)[0]
