"""How the papers' kernels are compiled by Numba: the same bits in every process, with fast arithmetic or without.

With it, sums may be reordered and fused; numbers that are not finite keep their meaning, so that a diverging run is
seen. What the compiler reorders depends on what it inlines, and it inlines a function that it has just compiled
differently from one that it has loaded from Numba's cache. So only what Python calls is cached (`kernel`), and as a
whole; the functions that kernels call (`part`) are compiled afresh into each of them.

Without it (`strict`) nothing is reordered, and functions may call each other and be cached as they like.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_COMMON: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_FAST: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, **_COMMON}

part = njit(**_FAST)
kernel = njit(cache=True, **_FAST)
strict = njit(cache=True, **_COMMON)

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # what SplitMix64 counts by


@part
def splitmix64(z):
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a counter in, 64 random bits out."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
