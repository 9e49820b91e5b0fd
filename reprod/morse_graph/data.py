"""MNIST's zeros and ones as Eslami et al. (2021) use them, and iris, in one form."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from reprod import data
from reprod.data import images, iris


@dataclass(frozen=True)
class Examples:
    """Inputs x float32, (n, 2) or (n, 28, 28), with labels y (n,) int64."""

    name: str
    split: str
    source: str
    x: np.ndarray
    y: np.ndarray

    @property
    def digest(self) -> str:
        return data.digest(self.x, self.y)


def zeros_and_ones(
    split: str, data_dir: str = "auto", *, first: int | None = None, subset: int | None = None, scale: bool = False
) -> Examples:
    """The digits 0 and 1 of MNIST: 12,665 for training (5,923 zeros), 2,115 for the test.

    Args:
        first: only the first so many.
        subset: instead, the paper's documented test subset of this size: `random.seed(5)`, then `random.sample` of the
            first 1,000 (with 100: 48 zeros, 52 ones). The labels that the authors recorded have 37 zeros: that subset
            is lost.
        scale: pixels from 0 to 1; the paper leaves them from 0 to 255.
    """
    found = images.load("mnist", split, data_dir)
    chosen = np.flatnonzero(found.labels < 2)[:first]
    if subset is not None:
        chosen = chosen[random.Random(5).sample(range(1000), subset)]
    x = found.pixels[chosen, 0].astype(np.float32)
    return Examples("mnist01", split, f"{found.source}, digits 0 and 1", x / 255 if scale else x, found.labels[chosen])


def petals(split: str, standardise: str = "all") -> Examples:
    """One half of iris, petal length and width (`reprod.data.iris`)."""
    found = iris.load("train" if standardise == "train" else "all")
    x, y = (found.train_x, found.train_y) if split == "train" else (found.test_x, found.test_y)
    return Examples("iris", split, "scikit-learn load_iris, petal length and width", x, y)
