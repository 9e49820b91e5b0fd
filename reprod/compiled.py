"""How the papers' kernels are compiled by Numba: fast arithmetic, and still the same bits in every process.

Sums may be reordered and fused; numbers that are not finite keep their meaning, so that a diverging run is seen.

What the compiler reorders depends on what it inlines, and it inlines a function that it has just compiled differently
from one that it has loaded from Numba's cache. So only what Python calls is cached (`kernel`), and as a whole; the
functions that kernels call (`part`) are compiled afresh into each of them.
"""

from __future__ import annotations

from typing import Any

from numba import njit

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}

part = njit(**_OPTIONS)
kernel = njit(cache=True, **_OPTIONS)
