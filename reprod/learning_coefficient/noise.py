"""Gaussian noise for many small steps: at 160,000 parameters it is a quarter of a step of SGLD by torch's generator.

Pairs by Box and Muller (1958) from the SplitMix64 hash of (key, pair), in float32, compiled so that all of it becomes
vector instructions, as those of `Tensor.normal_` cannot. 160,000 numbers took 0.12 ms here and 0.53 ms there, 4.4 times
as long (processor time on one thread of an AMD EPYC, torch 2.15, medians of seven; a factor of 1.95 was seen, too).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from reprod import compiled
from reprod.compiled import GAMMA, splitmix64
from reprod.training import stream, torch_stream


class Noise:
    """One stream of normal and uniform numbers per chain, so that a chain is the same however many run beside it.

    In float32 on the CPU the normal numbers are a function of (seed, chain, call); elsewhere they are torch's.
    """

    def __init__(self, seed: int, chains: int, device: str | torch.device = "cpu"):
        names = [f"noise/{chain}" for chain in range(chains)]
        self.generators = [torch_stream(seed, name, str(device)) for name in names]
        self.keys = np.array([stream(seed, name).integers(2**63) for name in names], dtype=np.uint64)
        self.calls = 0

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, out: Tensor, deviation: float = 1.0) -> None:
        """Fill `out`, (chains, D), with normal numbers of mean 0 and this standard deviation."""
        if out.device.type == "cpu" and out.dtype == torch.float32 and out.is_contiguous():
            _normals(out.numpy(), self.keys, self.calls, deviation)
        else:
            for row, generator in zip(out.unbind(0), self.generators, strict=True):
                row.normal_(0.0, deviation, generator=generator)
        self.calls += 1

    def uniform(self, like: Tensor) -> Tensor:
        """(chains,) numbers in [0, 1), of the type and on the device of `like`."""
        options: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        return torch.stack([torch.rand((), generator=g, **options) for g in self.generators])

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, "generators": {str(c): g.get_state() for c, g in enumerate(self.generators)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.calls = state["calls"]
        for c, generator in enumerate(self.generators):
            generator.set_state(state["generators"][str(c)])


def _polynomial(f: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int) -> tuple[np.float32, ...]:
    """f on [low, high], highest power first."""
    fit = np.polynomial.Chebyshev.interpolate(f, degree, domain=(low, high))
    return tuple(np.float32(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef[::-1])


# log m = s P(s) with s = m - 1; sin(pi t/2) = t P(t^2); cos(pi t/2) = P(t^2): each to a few units of float32.
_LOG = _polynomial(lambda s: np.log1p(s) / np.where(s == 0, 1, s) + (s == 0), 2**-0.5 - 1, 2**0.5 - 1, 9)
_SIN = _polynomial(lambda q: np.sinc(np.sqrt(q) / 2) * np.pi / 2, 0, 1, 5)
_COS = _polynomial(lambda q: np.cos(np.sqrt(q) * np.pi / 2), 0, 1, 5)
_LN2 = np.float32(np.log(2))


def _bitcast(to: Any, kind: Any, of: Any) -> Any:
    @intrinsic
    def cast(_context, _x):
        return to(of), lambda _c, builder, _s, x: builder.bitcast(x[0], kind)

    return cast


_bits = _bitcast(types.int32, ir.IntType(32), types.float32)  # the bits of a float32
_float = _bitcast(types.float32, ir.FloatType(), types.int32)  # the float32 with these bits


@compiled.part
def _horner(x, coefficients):
    value = coefficients[0]
    for c in coefficients[1:]:
        value = value * x + c
    return value


@compiled.kernel
def _normals(out, keys, call, deviation):
    half = (out.shape[1] + 1) // 2
    for chain in range(len(out)):
        key = splitmix64(keys[chain] + np.uint64(call + 1) * np.uint64(0xD1B54A32D192ED03))
        row = out[chain]
        for i in range(half):
            z = splitmix64(key + np.uint64(i + 1) * GAMMA)
            # 31 bits are u in (0, 1], 31 a quarter turn to both sides, the last one turns by half a circle.
            u = (np.float32(np.int32(z >> np.uint64(33))) + np.float32(0.5)) * np.float32(2.0**-31)
            t = np.float32(np.int32((z >> np.uint64(1)) & np.uint64(0x7FFFFFFF))) * np.float32(2.0**-30) - np.float32(1)
            # log u = e log 2 + log m with m in [sqrt(1/2), sqrt(2))
            shifted = _bits(u) - np.int32(0x3F3504F3)
            e = np.float32(np.int32(shifted >> np.int32(23)))
            s = _float(np.int32((shifted & np.int32(0x7FFFFF)) + np.int32(0x3F3504F3))) - np.float32(1)
            log = e * _LN2 + s * _horner(s, _LOG)
            radius = np.float32(np.sqrt(max(np.float32(-2) * log, np.float32(0)))) * np.float32(deviation)
            if z & np.uint64(1):
                radius = -radius
            row[i] = radius * _horner(t * t, _COS)
            if i < len(row) - half:
                row[half + i] = radius * t * _horner(t * t, _SIN)
