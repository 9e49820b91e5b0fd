"""GeoMNIST of Zhang et al. 2021: rotated, blurred triangles, rectangles and ellipses, 32 x 32, without pixel noise.

Per class N = n_train + n_val images. Image i of a class has its shift d_i = linspace(-1, 1, N)[i] (triangle, rectangle)
or its size r_i = linspace(5, 7, N)[i] (ellipse), is rotated by 176 i / N degrees (cubic splines) and blurred with
sigma_i ~ U(0.9, 1.1). Size and angle are therefore perfectly correlated, and the validation images are near duplicates
of the training images: accuracy says nothing about generalisation. Labels: 0 triangle, 1 rectangle, 2 ellipse.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from reprod.training import stream

SIDE = 32
CLASSES = ("triangle", "rectangle", "ellipse")


class GeoMnist(NamedTuple):
    """Images (3 n, 32, 32) float64, about [0, 1], stacked class after class; labels (3 n,) int64."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray


def raster(label: int, i: int, n: int) -> np.ndarray:
    """The binary shape (32, 32) of image i of n, before rotation and blur, around (row, column) = (16, 16).

    0: filled triangle with the vertices (16+d, 16-8 sqrt 3+d), (26+d, 24+d), (6+d, 24+d), edges included.
    1: rows round(12+d) ... round(20+d), columns round(8+d) ... round(24+d): 153 pixels.
    2: ((row-16)/r)^2 + ((column-16)/(2r))^2 < 1.
    """
    row, column = np.mgrid[:SIDE, :SIDE].astype(float)
    d = np.linspace(-1.0, 1.0, n)[i]
    if label == 0:
        # on the inner side of the two slanted edges, slope 1/sqrt 3, and of the vertical one
        reach = (column - (16 - 8 * np.sqrt(3) + d)) * 10 / (8 + 8 * np.sqrt(3))
        inside = (np.abs(row - (16 + d)) <= reach + 1e-9) & (column <= 24 + d + 1e-9)
    elif label == 1:
        top, bottom, left, right = np.round([12 + d, 20 + d, 8 + d, 24 + d])
        inside = (row >= top) & (row <= bottom) & (column >= left) & (column <= right)
    else:
        r = np.linspace(5.0, 7.0, n)[i]
        inside = ((row - 16) / r) ** 2 + ((column - 16) / (2 * r)) ** 2 < 1
    return inside.astype(float)


def image(label: int, i: int, n: int, sigma: float) -> np.ndarray:
    """Image i of n: its raster rotated by 176 i / n degrees and blurred with `sigma` pixels."""
    from scipy import ndimage

    turned = ndimage.rotate(raster(label, i, n), 176 * i / n, reshape=False)
    return ndimage.gaussian_filter(turned, sigma)


@cache
def load(n_train: int, n_val: int, data_seed: int = 0) -> GeoMnist:
    """`n_train` and `n_val` images per class, shuffled within their class and split. Blur and shuffle are named streams
    of `data_seed`, one pair per class."""
    n = n_train + n_val
    train, val = [], []
    for label in range(len(CLASSES)):
        sigma = stream(data_seed, f"geomnist/{label}/blur").uniform(0.9, 1.1, n)
        order = stream(data_seed, f"geomnist/{label}/shuffle").permutation(n)
        images = np.stack([image(label, i, n, sigma[i]) for i in range(n)])[order]
        train.append(images[:n_train])
        val.append(images[n_train:])
    labels = np.arange(len(CLASSES))
    return GeoMnist(np.concatenate(train), labels.repeat(n_train), np.concatenate(val), labels.repeat(n_val))


def corrupt(labels: np.ndarray, p: float, data_seed: int = 0, classes: int = 3) -> np.ndarray:
    """Labels with floor(p n) random ones of each class changed, evenly over the other classes.

    Of three classes the first half of the changed ones (rounded down) takes the smaller other label, the rest the
    larger.
    p = 1 - 1/classes makes the labels independent of the images.
    """
    changed = labels.copy()
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        count = int(np.floor(p * len(members) + 1e-9))
        chosen = stream(data_seed, f"corruption/{label}").permutation(members)[:count]
        others = [other for other in range(classes) if other != label]
        bounds = [count * k // len(others) for k in range(len(others) + 1)]
        for other, first, last in zip(others, bounds, bounds[1:], strict=False):
            changed[chosen[first:last]] = other
    return changed
