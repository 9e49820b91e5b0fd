"""Eslami et al. (2021): the global dynamics of training, from hundreds of small networks and a surrogate map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .morse import MorseGraph, compute
    from .surrogate import Surrogate

__all__ = ["MorseGraph", "Surrogate", "compute"]


def __getattr__(name: str) -> Any:
    """Imported on first use: a configuration needs neither SciPy nor Numba."""
    if name in ("MorseGraph", "compute"):
        from . import morse

        return getattr(morse, name)
    if name == "Surrogate":
        from .surrogate import Surrogate

        return Surrogate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
