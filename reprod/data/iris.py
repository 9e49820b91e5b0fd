"""Fisher's iris, petals only, as Eslami et al. (2021) use it. The data ship with scikit-learn: nothing is fetched.

Petal length and width are standardised with the mean and the standard deviation of all 150 flowers *before* the split
(a small leak of the original that is kept: `standardise="all"`); `standardise="train"` uses the training half only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Iris:
    """75 training and 75 test flowers: inputs (n, 2) float32, labels (n,) int64."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def load(standardise: Literal["all", "train"] = "all") -> Iris:
    """Petal length and width, split in halves with `train_test_split(test_size=0.5, random_state=2)`.

    The split leaves 23/27/25 flowers of the three species for training and 27/23/25 for the test.
    """
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    bunch = load_iris()
    x, y = bunch.data[:, 2:4], bunch.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(y)), test_size=0.5, random_state=2)
    basis = x if standardise == "all" else x[train]
    x = ((x - basis.mean(axis=0)) / basis.std(axis=0)).astype(np.float32)
    return Iris(x[train], y[train], x[test], y[test])
