"""Compiled sweeps of the residual network: forward, reverse, update and metrics of one network, free of the
interpreter lock. `network` has the same in torch, which is the reference.

Weights of one network: V (L, m, d) and W (L, d, m); samples X, Y (n, d); states H (L + 1, n, d), all of one float type.
Products go to the BLAS, activations to polynomials that the compiler turns into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numba.np.numpy_support import from_dtype
from scipy import special

from reprod.compiled import strict

ACTIVATIONS = {"gelu": 0, "relu": 1, "identity": 2}

# Strict arithmetic throughout: long sums are the BLAS's, fused products are asked for.


# -- the normal law, for GELU: x Phi(x) with the exact Phi ------------------------------------------------------------

MIDDLE, FAR = 5.0, 11.0


def _mills(degree: int) -> tuple[float, ...]:
    """(1 + x) Phi(-x)/phi(x) as a polynomial in t = (x - MIDDLE)/(x + MIDDLE), x in [0, FAR], highest power first.

    After Shepherd and Laframboise (1981).
    """
    end = (FAR - MIDDLE) / (FAR + MIDDLE)
    t = -1 + (1 + end) * (1 + np.cos(np.pi * (np.arange(400) + 0.5) / 400)) / 2
    x = MIDDLE * (1 + t) / (1 - t)
    ratio = np.sqrt(np.pi / 2) * special.erfcx(x / np.sqrt(2))
    fit = np.polynomial.Chebyshev.fit(t, ratio * (1 + x), degree, domain=(-1, end))
    return tuple(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef[::-1])


def _density(degree: int) -> tuple[float, ...]:
    """exp(-r/2)/sqrt(2 pi) on |r| <= ln 2 as a polynomial, highest power first."""
    fit = np.polynomial.Chebyshev.interpolate(lambda r: np.exp(-r / 2), degree, domain=(-np.log(2), np.log(2)))
    coefficients = fit.convert(kind=np.polynomial.Polynomial).coef[::-1]
    return tuple(float(c) for c in coefficients / np.sqrt(2 * np.pi))


def _real(kind: Any) -> Any:
    return ir.FloatType() if kind == types.float32 else ir.DoubleType()


def _polynomial(kind: Any, coefficients: tuple[float, ...]) -> Any:
    """A compiled function of x: Horner's scheme, unrolled, in the float type `kind`."""

    @intrinsic
    def evaluate(_context, _x):
        def generate(_target, builder, _signature, arguments):
            value = ir.Constant(_real(kind), coefficients[0])
            for c in coefficients[1:]:
                value = builder.fma(value, arguments[0], ir.Constant(_real(kind), c))
            return value

        return kind(kind), generate

    return evaluate


def _multiply_add(_context, x, _y, _z):
    """x y + z, rounded once."""

    def generate(_target, builder, _signature, arguments):
        return builder.fma(*arguments)

    return x(x, x, x), generate


def _two_to_the(_context, shifted):
    """2^p, from the bits of the float p + shift (`_make_normal`), the last of which are p + bias."""

    def generate(_target, builder, _signature, arguments):
        whole, mantissa = (ir.IntType(32), 23) if shifted == types.float32 else (ir.IntType(64), 52)
        bits = builder.shl(builder.bitcast(arguments[0], whole), ir.Constant(whole, mantissa))
        return builder.bitcast(bits, _real(shifted))

    return shifted(shifted), generate


_fma: Any = intrinsic(_multiply_add)
_power_of_two: Any = intrinsic(_two_to_the)


def _make_normal(kind: Any, degrees: tuple[int, int], largest: float, ln4: tuple[float, float]) -> Any:
    """The function `_normal` of one float type.

    With p = -a^2/(2 ln 2) rounded and r = a^2 + p ln 4: exp(-a^2/2) = 2^p exp(-r/2). `largest`: where a^2 is cut off.
    `ln4`: in two parts, so that r is exact.
    """
    real = from_dtype(np.dtype(kind))
    mills, density = _polynomial(real, _mills(degrees[0])), _polynomial(real, _density(degrees[1]))
    zero, one, middle, top = kind(0.0), kind(1.0), kind(MIDDLE), kind(largest)
    slope, high, low = kind(-0.5 / np.log(2)), kind(ln4[0]), kind(ln4[1])
    shift = kind(1.5 * 2**23 + 127 if kind is np.float32 else 1.5 * 2**52 + 1023)  # a sum with it is rounded to whole

    def normal(a):
        x = abs(a)
        square = min(x * x, top)
        shifted = _fma(square, slope, shift)
        power = shifted - shift
        phi = density(_fma(power, low, _fma(power, high, square))) * _power_of_two(shifted)
        line, sum_ = one + x, x + middle
        scale = one / (line * sum_)
        tail = mills((x - middle) * line * scale) * phi * (sum_ * scale)
        return (one - tail if a > zero else tail), phi

    return normal


_normal64 = _make_normal(np.float64, (17, 10), 1400.0, (1.3862943607382476, 3.8164298585411754e-10))
_normal32 = _make_normal(np.float32, (9, 6), 160.0, (1.38671875, -4.2438888e-4))


def _normal(a: Any) -> Any:
    """Distribution function Phi(a) and density phi(a) of the standard normal law, in the type of a."""


@overload(_normal, inline="always")
def _choose_normal(a):
    return _normal32 if a == types.float32 else _normal64


# -- loops over flat arrays -------------------------------------------------------------------------------------------


@strict
def activate(code, inner, factor, A, S, D):
    """S = sigma(inner A) and D = factor sigma'(inner A)."""
    kind = A.dtype.type
    if code == 0:
        for i in range(A.size):
            a = inner * A[i]
            Phi, phi = _normal(a)
            S[i] = a * Phi
            D[i] = factor * _fma(a, phi, Phi)
    elif code == 1:
        for i in range(A.size):
            a = inner * A[i]
            S[i] = max(a, kind(0.0))
            D[i] = factor if a > 0 else kind(0.0)
    else:
        for i in range(A.size):
            S[i] = inner * A[i]
            D[i] = factor


@strict
def _sum(factor, A, B, C):
    """C = A + factor B."""
    for i in range(C.size):
        C[i] = A[i] + factor * B[i]


@strict
def _multiply(B, C):
    """C *= B."""
    for i in range(C.size):
        C[i] *= B[i]


@strict
def _transpose(A, B):
    """B = A^T: products with a transposed right factor are slow."""
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            B[j, i] = A[i, j]


@strict
def _descend(z, g, factor, rate, clip):
    """z -= rate pi(factor g)."""
    for i in range(z.size):
        z[i] -= rate * min(max(factor * g[i], -clip), clip)


# -- one iteration of gradient descent --------------------------------------------------------------------------------


@strict
def sweep(X, Y, V, W, H, S, D, dV, dW, inner, outer, unit, rate, clip, code):
    """Loss, and either its gradient (dV, dW of full size) or, where those are empty, one step of descent in place.

    H_0 = X, H_{k+1} = H_k + outer sigma(inner H_k W_k) V_k;  loss = unit sum (H_L - Y)^2;
    Z_k <- Z_k - rate L dloss/dZ_k, clipped to [-clip, clip] before `rate`.
    S and D (kept, n, m) are room for activations and their derivatives: those of the last layers are kept from the
    forward to the reverse sweep, those of the others are computed again.
    Returns (loss, sum_k |dloss/dV_k|^2 + |dloss/dW_k|^2) before the step.
    """
    depth, d, m = W.shape
    n = X.shape[0]
    kind = X.dtype.type
    first = depth - S.shape[0]  # layer whose activations are kept in S[0]; earlier ones pass through there
    A, E = np.empty((n, m), X.dtype), np.empty((n, m), X.dtype)
    G, product = np.empty((n, d), X.dtype), np.empty((n, d), X.dtype)
    VT, WT = np.empty((d, m), X.dtype), np.empty((m, d), X.dtype)
    gV, gW = np.empty((m, d), X.dtype), np.empty((d, m), X.dtype)
    H[0] = X
    for k in range(depth):
        j = max(k - first, 0)
        np.dot(H[k], W[k], A)
        activate(code, inner, inner * outer, A.ravel(), S[j].ravel(), D[j].ravel())
        np.dot(S[j], V[k], product)
        _sum(outer, H[k].ravel(), product.ravel(), H[k + 1].ravel())
    loss = 0.0
    for i in range(n):
        for j in range(d):
            error = H[depth, i, j] - Y[i, j]
            loss += error * error
            G[i, j] = kind(2.0) * unit * error
    squares = 0.0
    for k in range(depth - 1, -1, -1):
        j = max(k - first, 0)
        if k < first:
            np.dot(H[k], W[k], A)
            activate(code, inner, inner * outer, A.ravel(), S[j].ravel(), D[j].ravel())
        _transpose(V[k], VT)
        _transpose(W[k], WT)
        np.dot(S[j].T, G, gV)  # dloss/dV_k = outer gV
        np.dot(G, VT, E)
        _multiply(D[j].ravel(), E.ravel())
        np.dot(H[k].T, E, gW)
        np.dot(E, WT, product)
        _sum(kind(1.0), G.ravel(), product.ravel(), G.ravel())
        squares += outer * outer * np.dot(gV.ravel(), gV.ravel()) + np.dot(gW.ravel(), gW.ravel())
        if dV.size:
            dV[k], dW[k] = outer * gV, gW
        else:
            _descend(V[k].ravel(), gV.ravel(), kind(depth) * outer, rate, clip)
            _descend(W[k].ravel(), gW.ravel(), kind(depth), rate, clip)
    return unit * loss, squares


# -- distances --------------------------------------------------------------------------------------------------------


@strict
def _square_distance(a, b, room):
    for i in range(a.size):
        room[i] = a[i] - b[i]
    return np.float64(np.dot(room, room))


@strict
def increments(V, W, out):
    """out = max |dV_k|, max |dW_k|, max (|dV_k| + |dW_k|), sum |dV_k|^2, sum |dW_k|^2 of neighbours k, k + 1."""
    out[:] = 0.0
    room = np.empty(V[0].size, V.dtype)
    for k in range(V.shape[0] - 1):
        v = _square_distance(V[k].ravel(), V[k + 1].ravel(), room)
        w = _square_distance(W[k].ravel(), W[k + 1].ravel(), room)
        out[0] = max(out[0], np.sqrt(v))
        out[1] = max(out[1], np.sqrt(w))
        out[2] = max(out[2], np.sqrt(v) + np.sqrt(w))
        out[3] += v
        out[4] += w


@strict
def distances(V, W, own, Vref, Wref, other, out):
    """out = mean |V_i - Vref_j|^2, mean |W_i - Wref_j|^2, max (|V_i - Vref_j| + |W_i - Wref_j|) over pairs
    i = own[p], j = other[p]."""
    out[:] = 0.0
    room = np.empty(V[0].size, V.dtype)
    for p in range(own.size):
        v = _square_distance(V[own[p]].ravel(), Vref[other[p]].ravel(), room)
        w = _square_distance(W[own[p]].ravel(), Wref[other[p]].ravel(), room)
        out[0] += v
        out[1] += w
        out[2] = max(out[2], np.sqrt(v) + np.sqrt(w))
    out[0] /= own.size
    out[1] /= own.size
