"""The LE-ODE d/dt Xbar^k = (1/K) sum_l E_kl(t) H_l Xbar^l, E_kl = alpha if k = l else beta: drifts and their modes.

I-model: H_l = identity. L-model: features are the K logits, H_l = u_l u_l^T with u_l = d_l/|d_l|, d_l = e_l - 1/K.
Means have shape (..., K, K): class, component. (Spec 1.2, equations 3 to 7.)
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def directions(classes: int) -> Array:
    """u_l, the rows of a (K, K) matrix: unit gradient directions of the cross-entropy at a uniform softmax. They sum to
    zero and have pairwise cosines -1/(K-1): a simplex equiangular tight frame."""
    d = np.eye(classes) - 1 / classes
    return d / np.sqrt((classes - 1) / classes)


def effects(alpha: float, beta: float, classes: int) -> Array:
    """E (K, K) = (alpha - beta) I + beta 1 1^T."""
    return (alpha - beta) * np.eye(classes) + beta


def drift_matrix(model: str, alpha: float, beta: float, classes: int, dim: int | None = None) -> Array:
    """M (K dim, K dim) = (1/K) (E (x) I) blockdiag(H_1, ..., H_K) acting on the stacked class means (equation 4).

    `dim` is free in the I-model; the L-model has dim = K.
    """
    dim = classes if dim is None else dim
    if model == "L" and dim != classes:
        raise ValueError(f"the L-model's features are its {classes} logits, not {dim} numbers")
    u = directions(classes)
    H = [np.eye(dim) if model == "I" else np.outer(u[k], u[k]) for k in range(classes)]
    M = np.kron(effects(alpha, beta, classes), np.eye(dim)) / classes
    for k in range(classes):
        M[:, k * dim : (k + 1) * dim] = M[:, k * dim : (k + 1) * dim] @ H[k]
    return M


def rates(model: str, alpha: Array, beta: Array, classes: int) -> tuple[Array, Array]:
    """Growth rates of the two moving modes.

    I-model: of the gaps, (alpha - beta)/K, and of the grand mean, (alpha + (K-1) beta)/K. L-model: of mode 1
    (all s_l = <u_l, Xbar^l> equal), (alpha - beta)/K, and of mode 2 (sum of s zero), (alpha + beta/(K-1))/K (equations
    5, 6).
    """
    other = alpha + (classes - 1) * beta if model == "I" else alpha + beta / (classes - 1)
    return (alpha - beta) / classes, other / classes


def gaps(means: Array) -> tuple[Array, Array]:
    """Grand mean c_0 (..., 1, K) and gaps c_k = Xbar^k - c_0 (..., K, K): the I-model's two modes."""
    grand = means.mean(axis=-2, keepdims=True)
    return grand, means - grand


def amplitudes(means: Array) -> tuple[Array, Array]:
    """The L-model's modes: mbar (...,) = mean_l s_l and v (..., K) = s - mbar, with s_l = <u_l, Xbar^l>."""
    s = np.einsum("lj,...lj->...l", directions(means.shape[-1]), means)
    mbar = s.mean(axis=-1)
    return mbar, s - mbar[..., None]


def solution_i(start: Array, A: Array, B: Array) -> Array:
    """Xbar (T, K, dim) from `start` (K, dim) at the times where A = int alpha and B = int beta are given (T,):
    c_0 e^{(A + (K-1) B)/K} + c_k e^{(A - B)/K} (equation 5)."""
    grand, gap = gaps(start)
    K = start.shape[0]
    return grand * np.exp((A + (K - 1) * B) / K)[:, None, None] + gap * np.exp((A - B) / K)[:, None, None]


def solution_l(start: Array, alpha: float, beta: float, t: Array) -> Array:
    """Xbar (T, K, K) of the L-model with constant strengths (equations 6, 7):

    Xbar^k(0) + (e^{r1 t} - 1) mbar u_k + (e^{r2 t} - 1)/(K r2) [(alpha - beta) v_k u_k + beta sum_l v_l u_l].
    """
    K = start.shape[-1]
    u = directions(K)
    mbar, v = amplitudes(start)
    r1, r2 = rates("L", np.asarray(alpha), np.asarray(beta), K)
    grown = t if r2 == 0 else np.expm1(r2 * t) / r2
    moved = ((alpha - beta) * v[:, None] * u + beta * (v @ u)) / K
    return start + np.expm1(r1 * t)[:, None, None] * mbar * u + grown[:, None, None] * moved


def cosines(vectors: Array) -> Array:
    """Cosines (..., K (K-1)/2) between all pairs of rows of (..., K, dim). -1/(K-1) in a simplex ETF."""
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    k, m = np.triu_indices(vectors.shape[-2], 1)
    return (unit[..., k, :] * unit[..., m, :]).sum(-1)
