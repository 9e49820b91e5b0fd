"""Compiled sweeps of the residual network: forward, reverse, update and metrics of one network, free of the
interpreter lock. Optional: `network` has the same in torch, which is the reference.

Weights of one network: V (L, m, d) and W (L, d, m); samples X, Y (n, d); states H (L + 1, n, d), all of one float type.
A layer is worked through in blocks of samples whose pre-activations stay in the first-level cache; the reverse sweep
computes them again from H instead of keeping them. The order of every sum is fixed, so results repeat to the last bit.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from scipy import special

ACTIVATIONS = {"gelu": 0, "relu": 1, "identity": 2}
BLOCK = 32

# infinities and NaN keep their meaning, so that a diverging network is seen
_jit = njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")


# -- GELU: x Phi(x) with the exact Phi, in a form that the compiler turns into vector instructions --------------------


def _fit_erfcx() -> tuple[float, ...]:
    """(1 + 2x) exp(x^2) erfc(x) as a polynomial in t = (x - 3.75)/(x + 3.75) in [-1, 1], highest power first.

    After Shepherd and Laframboise (1981); relative error below 4e-15 for all x >= 0.
    """
    t = np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    x = 3.75 * (1 + t) / (1 - t)
    chebyshev = np.polynomial.chebyshev.chebfit(t, special.erfcx(x) * (1 + 2 * x), 20)
    return tuple(float(c) for c in np.polynomial.chebyshev.cheb2poly(chebyshev)[::-1])


_ERFCX = _fit_erfcx()
_EXP = tuple(1.0 / float(special.factorial(k)) for k in range(13, -1, -1))  # |r| <= ln(2)/2: below 1e-16
_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_SQRT_HALF = 0.7071067811865476
_INV_SQRT_2PI = 0.3989422804014327


def _polynomial(coefficients):
    """A compiled function of float64 x: Horner's scheme, unrolled."""

    @intrinsic
    def evaluate(_context, _x):
        def generate(_target, builder, _signature, arguments):
            (x,) = arguments
            value = ir.Constant(ir.DoubleType(), coefficients[0])
            for c in coefficients[1:]:
                product = builder.fmul(value, x, flags=("contract",))
                value = builder.fadd(product, ir.Constant(ir.DoubleType(), c), flags=("contract",))
            return value

        return types.float64(types.float64), generate

    return evaluate


_erfcx = _polynomial(_ERFCX)
_exp = _polynomial(_EXP)


@intrinsic
def _as_float(_context, _bits):
    """The float64 with these 64 bits."""

    def generate(_target, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@njit(inline="always")
def _normal(a):
    """Distribution function Phi(a) and density phi(a) of the standard normal law."""
    x = abs(a) * _SQRT_HALF
    y = -min(x * x, 700.0)
    power = np.floor(y * _LOG2E + 0.5)
    r = (y - power * _LN2_HIGH) - power * _LN2_LOW
    exp = _exp(r) * _as_float((np.int64(power) + np.int64(1023)) << np.int64(52))  # type: ignore[call-arg]
    tail = _erfcx((x - 3.75) / (x + 3.75)) * 0.5 * exp / (1.0 + 2.0 * x)
    return (1.0 - tail if a > 0.0 else tail), exp * _INV_SQRT_2PI


@_jit
def _activate(code, A, S):
    """S = sigma(A), over the first entries of flat A."""
    if code == 0:
        for i in range(A.size):
            Phi, _ = _normal(A[i])
            S[i] = A[i] * Phi
    elif code == 1:
        for i in range(A.size):
            S[i] = max(A[i], A.dtype.type(0.0))
    else:
        for i in range(A.size):
            S[i] = A[i]


@_jit
def _activate_both(code, A, S):
    """S = sigma(A) and A <- sigma'(A)."""
    if code == 0:
        for i in range(A.size):
            a = A[i]
            Phi, phi = _normal(a)
            S[i] = a * Phi
            A[i] = Phi + a * phi
    elif code == 1:
        for i in range(A.size):
            a = A[i]
            S[i] = max(a, A.dtype.type(0.0))
            A[i] = A.dtype.type(1.0) if a > 0 else A.dtype.type(0.0)
    else:
        for i in range(A.size):
            S[i] = A[i]
            A[i] = A.dtype.type(1.0)


# -- small products ---------------------------------------------------------------------------------------------------


@_jit
def _add_product(A, B, C):
    """C += A B."""
    n, m = C.shape
    inner = A.shape[1]
    eight = inner - inner % 8
    for i in range(n):
        for p in range(0, eight, 8):
            a0, a1, a2, a3 = A[i, p], A[i, p + 1], A[i, p + 2], A[i, p + 3]
            a4, a5, a6, a7 = A[i, p + 4], A[i, p + 5], A[i, p + 6], A[i, p + 7]
            for j in range(m):
                C[i, j] += (a0 * B[p, j] + a1 * B[p + 1, j] + a2 * B[p + 2, j] + a3 * B[p + 3, j]) + (
                    a4 * B[p + 4, j] + a5 * B[p + 5, j] + a6 * B[p + 6, j] + a7 * B[p + 7, j]
                )
        for p in range(eight, inner):
            a0 = A[i, p]
            for j in range(m):
                C[i, j] += a0 * B[p, j]


@_jit
def _add_transposed_product(A, B, C):
    """C += A^T B."""
    n, m = C.shape
    inner = A.shape[0]
    eight = inner - inner % 8
    for p in range(0, eight, 8):
        for i in range(n):
            a0, a1, a2, a3 = A[p, i], A[p + 1, i], A[p + 2, i], A[p + 3, i]
            a4, a5, a6, a7 = A[p + 4, i], A[p + 5, i], A[p + 6, i], A[p + 7, i]
            for j in range(m):
                C[i, j] += (a0 * B[p, j] + a1 * B[p + 1, j] + a2 * B[p + 2, j] + a3 * B[p + 3, j]) + (
                    a4 * B[p + 4, j] + a5 * B[p + 5, j] + a6 * B[p + 6, j] + a7 * B[p + 7, j]
                )
    for p in range(eight, inner):
        for i in range(n):
            a0 = A[p, i]
            for j in range(m):
                C[i, j] += a0 * B[p, j]


# -- one iteration of gradient descent --------------------------------------------------------------------------------


@_jit
def forward(X, V, W, H, inner, outer, code):
    """H_0 = X, H_{k+1} = H_k + outer sigma(inner H_k W_k) V_k."""
    depth, d, m = W.shape
    n = X.shape[0]
    A = np.empty((BLOCK, m), X.dtype)
    S = np.empty((BLOCK, m), X.dtype)
    Wk = np.empty((d, m), X.dtype)
    Vk = np.empty((m, d), X.dtype)
    H[0] = X
    for k in range(depth):
        for i in range(d):
            for j in range(m):
                Wk[i, j] = inner * W[k, i, j]
                Vk[j, i] = outer * V[k, j, i]
        for first in range(0, n, BLOCK):
            last = min(first + BLOCK, n)
            size = last - first
            A[:size] = A.dtype.type(0.0)
            _add_product(H[k, first:last], Wk, A[:size])
            _activate(code, A.ravel()[: size * m], S.ravel()[: size * m])
            for i in range(size):
                for j in range(d):
                    H[k + 1, first + i, j] = H[k, first + i, j]
            _add_product(S[:size], Vk, H[k + 1, first:last])


@_jit
def sweep(X, Y, V, W, H, dV, dW, inner, outer, unit, rate, clip, code):
    """Loss, and either its gradient (dV, dW of full size) or, where those are empty, one step of descent in place.

    loss = unit sum (H_L - Y)^2;  Z_k <- Z_k - rate L dloss/dZ_k, clipped to [-clip, clip] before `rate`.
    Returns (loss, sum_k |dloss/dV_k|^2 + |dloss/dW_k|^2) before the step.
    """
    depth, d, m = W.shape
    n = X.shape[0]
    kind = X.dtype.type
    zero = kind(0.0)
    forward(X, V, W, H, inner, outer, code)
    G = np.empty((n, d), X.dtype)
    loss = 0.0
    for i in range(n):
        for j in range(d):
            error = H[depth, i, j] - Y[i, j]
            loss += error * error
            G[i, j] = kind(2.0) * unit * error
    A = np.empty((BLOCK, m), X.dtype)
    S = np.empty((BLOCK, m), X.dtype)
    E = np.empty((BLOCK, m), X.dtype)
    Wk = np.empty((d, m), X.dtype)
    Wt = np.empty((m, d), X.dtype)
    Vt = np.empty((d, m), X.dtype)
    gV = np.empty((m, d), X.dtype)
    gW = np.empty((d, m), X.dtype)
    squares = 0.0
    for k in range(depth - 1, -1, -1):
        for i in range(d):
            for j in range(m):
                Wk[i, j] = inner * W[k, i, j]
                Wt[j, i] = Wk[i, j]
                Vt[i, j] = outer * V[k, j, i]
        gV[:] = zero
        gW[:] = zero
        for first in range(0, n, BLOCK):
            last = min(first + BLOCK, n)
            size = last - first
            A[:size] = zero
            E[:size] = zero
            _add_product(H[k, first:last], Wk, A[:size])
            _activate_both(code, A.ravel()[: size * m], S.ravel()[: size * m])
            _add_transposed_product(S[:size], G[first:last], gV)
            _add_product(G[first:last], Vt, E[:size])
            for i in range(size):
                for j in range(m):
                    E[i, j] *= A[i, j]
            _add_transposed_product(H[k, first:last], E[:size], gW)
            _add_product(E[:size], Wt, G[first:last])
        layer = zero
        for i in range(m):
            for j in range(d):
                gV[i, j] *= outer
                layer += gV[i, j] * gV[i, j]
        for i in range(d):
            for j in range(m):
                gW[i, j] *= inner
                layer += gW[i, j] * gW[i, j]
        squares += layer
        if dV.size:
            dV[k] = gV
            dW[k] = gW
        else:
            _descend(V[k].ravel(), gV.ravel(), kind(depth), rate, clip)
            _descend(W[k].ravel(), gW.ravel(), kind(depth), rate, clip)
    return unit * loss, squares


@_jit
def _descend(z, g, depth, rate, clip):
    for i in range(z.size):
        z[i] -= rate * min(max(depth * g[i], -clip), clip)


# -- distances --------------------------------------------------------------------------------------------------------


@_jit
def _square_distance(a, b):
    total = a.dtype.type(0.0)
    for i in range(a.size):
        total += (a[i] - b[i]) * (a[i] - b[i])
    return np.float64(total)


@_jit
def increments(V, W, out):
    """out = max |dV_k|, max |dW_k|, max (|dV_k| + |dW_k|), sum |dV_k|^2, sum |dW_k|^2 of neighbours k, k + 1."""
    out[:] = 0.0
    for k in range(V.shape[0] - 1):
        v = _square_distance(V[k].ravel(), V[k + 1].ravel())
        w = _square_distance(W[k].ravel(), W[k + 1].ravel())
        out[0] = max(out[0], np.sqrt(v))
        out[1] = max(out[1], np.sqrt(w))
        out[2] = max(out[2], np.sqrt(v) + np.sqrt(w))
        out[3] += v
        out[4] += w


@_jit
def distances(V, W, own, Vref, Wref, other, out):
    """out = mean |V_i - Vref_j|^2, mean |W_i - Wref_j|^2, max (|V_i - Vref_j| + |W_i - Wref_j|) over pairs
    i = own[p], j = other[p]."""
    out[:] = 0.0
    for p in range(own.size):
        v = _square_distance(V[own[p]].ravel(), Vref[other[p]].ravel())
        w = _square_distance(W[own[p]].ravel(), Wref[other[p]].ravel())
        out[0] += v
        out[1] += w
        out[2] = max(out[2], np.sqrt(v) + np.sqrt(w))
    out[0] /= own.size
    out[1] /= own.size
