"""Maps whose Morse graphs are known: by hand (C1 to C7 of the spec) or from the literature (Leslie)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KnownMap:
    """A vectorised map of points (n, d), and its box."""

    f: Callable[[np.ndarray], np.ndarray]
    lower: tuple[float, ...]
    upper: tuple[float, ...]


def leslie(x: np.ndarray) -> np.ndarray:
    """Leslie population model: ((19.6 x + 23.68 y) exp(-0.1 (x + y)), 0.7 x)."""
    young = (19.6 * x[:, 0] + 23.68 * x[:, 1]) * np.exp(-0.1 * (x[:, 0] + x[:, 1]))
    return np.stack([young, 0.7 * x[:, 0]], axis=1)


def product_map(x: np.ndarray) -> np.ndarray:
    """x / (2 - x) in each coordinate: 0 attracts, 1 repels, so that d coordinates have 2^d hyperbolic fixed points."""
    return x / (2 - x)


def bistable(x: np.ndarray) -> np.ndarray:
    """2x / (1 + x^2): 0 repels, -1 and 1 attract."""
    return 2 * x / (1 + x**2)


KNOWN_MAPS: dict[str, KnownMap] = {
    "half": KnownMap(lambda x: x / 2, (-1.0,), (1.0,)),
    "half_2d": KnownMap(lambda x: x / 2, (-1.0, -1.0), (1.0, 1.0)),
    "double": KnownMap(lambda x: 2 * x, (-1.0,), (1.0,)),
    "bistable": KnownMap(bistable, (-2.0,), (2.0,)),
    "identity": KnownMap(lambda x: x, (0.0, 0.0), (1.0, 1.0)),
    "constant": KnownMap(lambda x: np.full_like(x, 0.51), (0.0, 0.0), (1.0, 1.0)),
    "product": KnownMap(product_map, (0.0, 0.0), (1.2, 1.2)),
    "product_3d": KnownMap(product_map, (0.0, 0.0, 0.0), (1.2, 1.2, 1.2)),
    "leslie": KnownMap(leslie, (-0.001, -0.001), (90.0, 70.0)),
}
