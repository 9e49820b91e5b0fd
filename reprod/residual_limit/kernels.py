"""Compiled sweeps of the residual network: forward, reverse, update and metrics of one network, free of the
interpreter lock. Optional: `network` has the same in torch, which is the reference.

Weights of one network: V (L, m, d) and W (L, d, m); samples X, Y (n, d); states H (L + 1, n, d), all of one float type.
The reverse sweep computes pre-activations again from H instead of keeping them. Products go to the BLAS, activations to
polynomials that the compiler turns into vector instructions. The order of every sum is fixed, so results repeat to the
last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from scipy import special

ACTIVATIONS = {"gelu": 0, "relu": 1, "identity": 2}

# infinities and NaN keep their meaning, so that a diverging network is seen
_jit = njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")


# -- the normal law, for GELU: x Phi(x) with the exact Phi ------------------------------------------------------------


def _erfcx(degree: int) -> tuple[float, ...]:
    """(1 + 2x) exp(x^2) erfc(x) as a polynomial in t = (x - 3.75)/(x + 3.75) in [-1, 1], highest power first.

    After Shepherd and Laframboise (1981); relative error for all x >= 0: 4e-15 at degree 20, 4e-8 at degree 9.
    """
    t = np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    x = 3.75 * (1 + t) / (1 - t)
    chebyshev = np.polynomial.chebyshev.chebfit(t, special.erfcx(x) * (1 + 2 * x), degree)
    return tuple(float(c) for c in np.polynomial.chebyshev.cheb2poly(chebyshev)[::-1])


def _exp(degree: int) -> tuple[float, ...]:
    """Taylor's polynomial of exp on |r| <= ln(2)/2, highest power first; relative error 3e-16 at 12, 6e-9 at 7."""
    return tuple(1.0 / float(special.factorial(k)) for k in range(degree, -1, -1))


def _polynomial(kind: Any, coefficients: tuple[float, ...]) -> Any:
    """A compiled function of x: Horner's scheme, unrolled, in the float type `kind`."""
    real = ir.FloatType() if kind == types.float32 else ir.DoubleType()

    @intrinsic
    def evaluate(_context, _x):
        def generate(_target, builder, _signature, arguments):
            (x,) = arguments
            value = ir.Constant(real, coefficients[0])
            for c in coefficients[1:]:
                product = builder.fmul(value, x, flags=("contract",))
                value = builder.fadd(product, ir.Constant(real, c), flags=("contract",))
            return value

        return kind(kind), generate

    return evaluate


def _power_of_two(kind: Any) -> Any:
    """A compiled function: 2^p for a whole-numbered float p, made of its bits."""
    single = kind == types.float32
    whole, real = (ir.IntType(32), ir.FloatType()) if single else (ir.IntType(64), ir.DoubleType())
    bias, mantissa = (127, 23) if single else (1023, 52)

    @intrinsic
    def evaluate(_context, _p):
        def generate(_target, builder, _signature, arguments):
            exponent = builder.add(builder.fptosi(arguments[0], whole), ir.Constant(whole, bias))
            return builder.bitcast(builder.shl(exponent, ir.Constant(whole, mantissa)), real)

        return kind(kind), generate

    return evaluate


_erfcx64, _exp64 = _polynomial(types.float64, _erfcx(20)), _polynomial(types.float64, _exp(12))
_erfcx32, _exp32 = _polynomial(types.float32, _erfcx(9)), _polynomial(types.float32, _exp(7))
_two64, _two32 = _power_of_two(types.float64), _power_of_two(types.float32)


def _make_normal(kind: Any, erfcx: Any, exp_polynomial: Any, two: Any, largest: float, ln2: tuple[float, float]) -> Any:
    """The function `_normal` of one float type; `largest`: where exp(-x^2) is cut off."""
    zero, half, one, both, middle = kind(0.0), kind(0.5), kind(1.0), kind(2.0), kind(3.75)
    sqrt_half, log2e, density = kind(np.sqrt(0.5)), kind(1 / np.log(2)), kind(1 / np.sqrt(2 * np.pi))
    top, high, low = kind(largest), kind(ln2[0]), kind(ln2[1])

    def normal(a):
        x = abs(a) * sqrt_half
        y = -min(x * x, top)
        power = np.floor(y * log2e + half)
        exp = exp_polynomial((y - power * high) - power * low) * two(power)
        scale = one / ((x + middle) * (one + both * x))
        tail = erfcx((x - middle) * (one + both * x) * scale) * half * exp * ((x + middle) * scale)
        return (one - tail if a > zero else tail), exp * density

    return normal


_normal64 = _make_normal(np.float64, _erfcx64, _exp64, _two64, 700.0, (0.6931471803691238, 1.9082149292705877e-10))
_normal32 = _make_normal(np.float32, _erfcx32, _exp32, _two32, 80.0, (0.693359375, -2.12194440e-4))


def _normal(a: Any) -> Any:
    """Distribution function Phi(a) and density phi(a) of the standard normal law, in the type of a."""


@overload(_normal, inline="always")
def _choose_normal(a):
    return _normal32 if a == types.float32 else _normal64


# -- activations, in place on flat arrays -----------------------------------------------------------------------------


@_jit
def _activate(code, A, S):
    """S = sigma(A)."""
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


@_jit
def _add(B, C):
    """C += B."""
    for i in range(C.size):
        C[i] += B[i]


@_jit
def _multiply(B, C):
    """C *= B."""
    for i in range(C.size):
        C[i] *= B[i]


@_jit
def _scaled(factor, B, C):
    """C = factor B."""
    for i in range(C.size):
        C[i] = factor * B[i]


# -- one iteration of gradient descent --------------------------------------------------------------------------------


@_jit
def forward(X, V, W, H, inner, outer, code):
    """H_0 = X, H_{k+1} = H_k + outer sigma(inner H_k W_k) V_k."""
    depth, d, m = W.shape
    n = X.shape[0]
    A, S = np.empty((n, m), X.dtype), np.empty((n, m), X.dtype)
    Wk, Vk = np.empty((d, m), X.dtype), np.empty((m, d), X.dtype)
    H[0] = X
    for k in range(depth):
        _scaled(inner, W[k].ravel(), Wk.ravel())
        _scaled(outer, V[k].ravel(), Vk.ravel())
        np.dot(H[k], Wk, A)
        _activate(code, A.ravel(), S.ravel())
        np.dot(S, Vk, H[k + 1])
        _add(H[k].ravel(), H[k + 1].ravel())


@_jit
def sweep(X, Y, V, W, H, dV, dW, inner, outer, unit, rate, clip, code):
    """Loss, and either its gradient (dV, dW of full size) or, where those are empty, one step of descent in place.

    loss = unit sum (H_L - Y)^2;  Z_k <- Z_k - rate L dloss/dZ_k, clipped to [-clip, clip] before `rate`.
    Returns (loss, sum_k |dloss/dV_k|^2 + |dloss/dW_k|^2) before the step.
    """
    depth, d, m = W.shape
    n = X.shape[0]
    kind = X.dtype.type
    forward(X, V, W, H, inner, outer, code)
    G, back = np.empty((n, d), X.dtype), np.empty((n, d), X.dtype)
    loss = 0.0
    for i in range(n):
        for j in range(d):
            error = H[depth, i, j] - Y[i, j]
            loss += error * error
            G[i, j] = kind(2.0) * unit * error
    A, S, E = np.empty((n, m), X.dtype), np.empty((n, m), X.dtype), np.empty((n, m), X.dtype)
    Wk, Vk = np.empty((d, m), X.dtype), np.empty((m, d), X.dtype)
    gV, gW = np.empty((m, d), X.dtype), np.empty((d, m), X.dtype)
    squares = 0.0
    for k in range(depth - 1, -1, -1):
        _scaled(inner, W[k].ravel(), Wk.ravel())
        _scaled(outer, V[k].ravel(), Vk.ravel())
        np.dot(H[k], Wk, A)
        _activate_both(code, A.ravel(), S.ravel())
        np.dot(S.T, G, gV)
        np.dot(G, Vk.T, E)
        _multiply(A.ravel(), E.ravel())
        np.dot(H[k].T, E, gW)
        np.dot(E, Wk.T, back)
        _add(back.ravel(), G.ravel())
        squares += _scale_and_square(outer, gV.ravel()) + _scale_and_square(inner, gW.ravel())
        if dV.size:
            dV[k] = gV
            dW[k] = gW
        else:
            _descend(V[k].ravel(), gV.ravel(), kind(depth), rate, clip)
            _descend(W[k].ravel(), gW.ravel(), kind(depth), rate, clip)
    return unit * loss, squares


@_jit
def _scale_and_square(factor, g):
    total = g.dtype.type(0.0)
    for i in range(g.size):
        g[i] *= factor
        total += g[i] * g[i]
    return np.float64(total)


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
