"""Crossings of numerical trajectories in the plane (Ott et al. 2021, figure 1).

The orbits of an autonomous ODE never cross. Polylines of a coarse solver do, and the classifier then depends on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CHUNK = 1 << 21  # pairs of segments looked at together


class Crossings(NamedTuple):
    """crossings: of single segments; crossing_pairs: of points of different class whose polylines cross at all;
    pairs: of points of different class."""

    crossings: int
    crossing_pairs: int
    pairs: int


def count_crossings(trajectories: np.ndarray, labels: np.ndarray) -> Crossings:
    """Crossings between polylines (n + 1, points, 2) of points with different labels (points,).

    Segments are sorted by their left end, so that each is compared with those alone which overlap it in x.
    """
    steps, points = trajectories.shape[0] - 1, trajectories.shape[1]
    order = np.argsort(np.minimum(trajectories[:-1, :, 0], trajectories[1:, :, 0]), axis=None, kind="stable")
    start = trajectories[:-1].reshape(-1, 2)[order].astype(np.float64)
    stop = trajectories[1:].reshape(-1, 2)[order].astype(np.float64)
    owner = np.tile(np.arange(points), steps)[order]
    low, high = np.minimum(start, stop), np.maximum(start, stop)
    partners = np.searchsorted(low[:, 0], high[:, 0], side="right") - np.arange(len(low)) - 1  # to the right of each

    crossings, crossed = 0, np.zeros((points, points), bool)
    ends = np.cumsum(partners)
    first = 0
    while first < len(low):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        count = partners[first:last]
        i = np.repeat(np.arange(first, last), count)
        j = i + 1 + np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
        near = (labels[owner[i]] != labels[owner[j]]) & (low[i, 1] <= high[j, 1]) & (low[j, 1] <= high[i, 1])
        i, j = i[near], j[near]
        hit = _cross(start[i], stop[i], start[j], stop[j])
        crossings += int(hit.sum())
        crossed[owner[i[hit]], owner[j[hit]]] = True
        first = last
    crossed |= crossed.T
    different = labels[:, None] != labels[None, :]
    return Crossings(crossings, int(crossed.sum()) // 2, int(different.sum()) // 2)


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Whether the segments ab and cd cross at an inner point of both."""

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.sign((q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0]))

    return (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
