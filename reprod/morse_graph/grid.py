"""A uniform grid of cells, and the outer approximation of a map on it (Eslami et al. 2021; sections 1.4 of the spec).

The box is bisected S times, coordinates taken cyclically from the first, so that axis k = 0 ... d-1 has

    n_k = 2^ceil((S - k) / d)   cells of width h_k.

The image of a cell xi with corners c_i is the box

    F(xi)_k = [ min_i (f_k(c_i) - z s(c_i)) - h_k,  max_i (f_k(c_i) + z s(c_i)) + h_k ],

with s the deviation of a surrogate (z = 0: the released code) and the one-cell padding h_k left out on request. A cell
eta is a successor of xi iff closed eta meets closed F(xi): touching counts. Parts of F(xi) outside the box are cut off;
if all of it lies outside, xi has no successor.

This is not a rigorous enclosure: it supposes that f is close to monotone within a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

BLOCK = 65_536  # points in one call of the map
TOUCH = 2.0**-50  # cells that touch the image up to this (in units of the box) are successors


@dataclass(frozen=True)
class Grid:
    """Cells of the box [lower, upper] in d dimensions. A cell's id is its place in C order of `shape`.

    Raises:
        ValueError: bounds of different lengths, an empty side, or a negative number of subdivisions.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    subdivisions: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "lower", tuple(float(x) for x in self.lower))
        object.__setattr__(self, "upper", tuple(float(x) for x in self.upper))
        if not self.lower or len(self.lower) != len(self.upper):
            raise ValueError(f"lower and upper need one bound for each coordinate, got {self.lower} and {self.upper}")
        if not all(a < b for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"every lower bound must lie below its upper bound, got {self.lower} and {self.upper}")
        if self.subdivisions < 0:
            raise ValueError(f"subdivisions must be at least 0, got {self.subdivisions}")

    @property
    def dimension(self) -> int:
        return len(self.lower)

    @property
    def shape(self) -> tuple[int, ...]:
        d = self.dimension
        return tuple(2 ** max(0, -(-(self.subdivisions - k) // d)) for k in range(d))

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def widths(self) -> np.ndarray:
        """Side lengths h (d,) of a cell."""
        return (np.array(self.upper) - np.array(self.lower)) / np.array(self.shape)

    @property
    def axes(self) -> list[np.ndarray]:
        """Positions of the grid lines: axis k has n_k + 1 of them."""
        return [
            a + (b - a) * (np.arange(n + 1) / n) for a, b, n in zip(self.lower, self.upper, self.shape, strict=True)
        ]

    def points(self) -> np.ndarray:
        """All corners, (prod(n_k + 1), d), in C order."""
        return np.stack([x.ravel() for x in np.meshgrid(*self.axes, indexing="ij")], axis=1)

    def centres(self, cells: np.ndarray) -> np.ndarray:
        """Midpoints (m, d) of cells given by id (m,)."""
        index = np.stack(np.unravel_index(cells, self.shape), axis=1)
        return np.array(self.lower) + (index + 0.5) * self.widths

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Ids (m,) of the cells that contain points (m, d); -1 outside. A point on a face belongs to the upper cell."""
        n = np.array(self.shape)
        scaled = (np.asarray(points) - np.array(self.lower)) / (np.array(self.upper) - np.array(self.lower))
        inside = ((scaled >= 0) & (scaled <= 1)).all(axis=1)
        index = np.minimum((np.where(inside[:, None], scaled, 0.0) * n).astype(np.int64), n - 1)
        return np.where(inside, np.ravel_multi_index(tuple(index.T), self.shape), -1)


def on_corners(f: Callable[[np.ndarray], Any], grid: Grid) -> np.ndarray:
    """Values of f at all corners, (n_1 + 1, ..., n_d + 1, outputs): each corner is evaluated once.

    A map with a method `on_grid(axes)` is asked for the whole grid at once.

    Raises:
        ValueError: f does not give one finite row for each point.
    """
    shape = tuple(n + 1 for n in grid.shape)
    if hasattr(f, "on_grid"):
        values = np.asarray(f.on_grid(grid.axes), dtype=float)
    else:
        points = grid.points()
        blocks = [np.asarray(f(points[i : i + BLOCK]), dtype=float) for i in range(0, len(points), BLOCK)]
        if any(b.ndim == 0 or len(b) != min(BLOCK, len(points) - i * BLOCK) for i, b in enumerate(blocks)):
            raise ValueError(f"the map must send points (n, {grid.dimension}) to rows, got {blocks[0].shape}")
        values = np.concatenate(blocks).reshape(*shape, -1)
    if not np.isfinite(values).all():
        raise ValueError("the map has values that are not finite on the box")
    return values


def cell_images(
    f: Callable[[np.ndarray], Any],
    grid: Grid,
    padding: bool,
    z: float = 0.0,
    deviation: Callable[[np.ndarray], Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of F(xi), each (cells, d), with `deviation` the s of the module's formula.

    Raises:
        ValueError: f does not map (n, d) to (n, d), or z without a deviation.
    """
    d = grid.dimension
    values = on_corners(f, grid)
    if values.shape[-1] != d:
        raise ValueError(f"the map must send points (n, {d}) to points (n, {d}), got {values.shape[-1]} coordinates")
    low = high = values
    if z:
        if deviation is None:
            raise ValueError("z needs the deviation of the map")
        spread = z * on_corners(deviation, grid)
        low, high = values - spread, values + spread
    lo, hi = _over_corners(low, np.minimum, d), _over_corners(high, np.maximum, d)
    pad = grid.widths if padding else 0.0
    return lo.reshape(-1, d) - pad, hi.reshape(-1, d) + pad


def _over_corners(values: np.ndarray, reduce: Callable, d: int) -> np.ndarray:
    """Reduces the 2^d shifted views of the corner values to one value for each cell."""
    result = None
    for corner in product((0, 1), repeat=d):
        view = values[tuple(slice(1, None) if c else slice(None, -1) for c in corner)]
        result = view.copy() if result is None else reduce(result, view, out=result)
    assert result is not None
    return result


def successors(grid: Grid, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of the cells that each image meets, along each axis: two int32 arrays (cells, d).

    A cell without successors has first > last along the first axis.
    """
    n = np.array(grid.shape)
    side = np.array(grid.upper) - np.array(grid.lower)
    a = (low - np.array(grid.lower)) / side
    b = (high - np.array(grid.lower)) / side
    leaves = ((b < 0) | (a > 1)).any(axis=1)
    first = np.maximum(0, np.ceil(n * (np.clip(a, 0, 1) - TOUCH) - 1)).astype(np.int32)
    last = np.minimum(n - 1, np.floor(n * (np.clip(b, 0, 1) + TOUCH))).astype(np.int32)
    first[leaves], last[leaves] = 1, 0
    return first, last
