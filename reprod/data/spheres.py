"""Synthetic sets of Ott et al. 2021: concentric spheres in d dimensions and the basins of three minima.

Both are a pure function of one seed, `data_seed`, and are shared by every training seed. Inputs have shape (n, 1, d)
in float32, labels int64; the spheres are stored shell after shell (shuffling is the loader's business).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reprod.training import stream

SHELLS = (  # radius interval, share of the points, label
    ((0.10, 0.15), 0.25, 0),
    ((0.25, 0.30), 0.50, 1),
    ((0.40, 0.45), 0.25, 0),
)
DIMENSIONS = (2, 3, 10, 900)
MINIMA = (-0.850, 0.269, 1.839)
N_TRAIN, N_TEST = 2000, 1000


class SphereData(NamedTuple):
    """Training and test split; x (n, 1, d) float32, y (n,) int64."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def dim(self) -> int:
        return self.x_train.shape[-1]

    @property
    def n_classes(self) -> int:
        return int(self.y_train.max()) + 1


def concentric_spheres(dim: int, n: int, rng: np.random.Generator, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """n points on three thick shells around the origin.

    x = r u with u uniform on the unit sphere and r = r_min + (r_max - r_min) U^(1/d), U uniform on (0, 1). The outer
    and the inner shell are class 0, the middle one is class 1. `scale` multiplies every point (the first public
    revision of the original halved the higher-dimensional sets).
    """
    x, y = [], []
    for (r_min, r_max), share, label in SHELLS:
        m = round(share * n)
        direction = rng.standard_normal((m, dim))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        radius = r_min + (r_max - r_min) * rng.uniform(size=(m, 1)) ** (1 / dim)
        x.append(scale * radius * direction)
        y.append(np.full(m, label))
    return np.concatenate(x).astype(np.float32)[:, None, :], np.concatenate(y).astype(np.int64)


def potential(x: np.ndarray) -> np.ndarray:
    """V(x) = 0.2 x (x - 0.5) (x - 1.6) (x - 2) (x + 0.6) (x + 1), with three minima and two saddles between."""
    return 0.2 * x * (x - 0.5) * (x - 1.6) * (x - 2) * (x + 0.6) * (x + 1)


def potential_gradient(x: np.ndarray) -> np.ndarray:
    """V'(x) = 1.2 x^5 - 2.5 x^4 - 0.768 x^3 + 2.364 x^2 + 0.176 x - 0.192."""
    return ((((1.2 * x - 2.5) * x - 0.768) * x + 2.364) * x + 0.176) * x - 0.192


def three_minima(n: int, rng: np.random.Generator, friction: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """n starting points (x0, v0) of x'' = -V'(x) - friction x', labelled with the minimum in which they come to rest.

    x0 is uniform on (-1, 2), v0 on (-2, 2); classical rk4 with h = 0.02 to t = 100.
    """
    start = np.stack([rng.uniform(-1, 2, n), rng.uniform(-2, 2, n)])
    h, end = 0.02, 100.0

    def slope(s: np.ndarray) -> np.ndarray:
        return np.stack([s[1], -potential_gradient(s[0]) - friction * s[1]])

    s = start
    for _ in range(round(end / h)):
        k1 = slope(s)
        k2 = slope(s + h / 2 * k1)
        k3 = slope(s + h / 2 * k2)
        k4 = slope(s + h * k3)
        s = s + h / 6 * (k1 + 2 * (k2 + k3) + k4)
    near = np.abs(s[0][:, None] - np.array(MINIMA)) < 0.02
    if np.abs(s[1]).max() >= 1e-3 or not (near.sum(1) == 1).all():
        raise RuntimeError("a point of the three-minima set has not come to rest in a minimum")
    return start.T.astype(np.float32)[:, None, :], near.argmax(1).astype(np.int64)


def load(dataset: str, data_seed: int = 0, scale: float = 1.0) -> SphereData:
    """The set named `concentric_sphere<d>` or `three_minima`, 2000 training and 1000 test points from independent
    streams of `data_seed`. `scale` applies to the spheres only."""

    def draw(split: str, n: int) -> tuple[np.ndarray, np.ndarray]:
        rng = stream(data_seed, f"{dataset}/{split}")
        if dataset == "three_minima":
            return three_minima(n, rng)
        return concentric_spheres(int(dataset.removeprefix("concentric_sphere")), n, rng, scale)

    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}: one of {', '.join(DATASETS)}")
    return SphereData(*draw("train", N_TRAIN), *draw("test", N_TEST))


DATASETS = (*(f"concentric_sphere{d}" for d in DIMENSIONS), "three_minima")
