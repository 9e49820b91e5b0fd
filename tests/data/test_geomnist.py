"""GeoMNIST: raster counts and intensities of the specification, splits, corruption."""

from __future__ import annotations

import numpy as np
import pytest

from reprod.data import geomnist

N = 1001


@pytest.mark.parametrize(
    ("label", "low", "high", "mean"), [(0, 209, 230, 218.7), (1, 153, 153, 153), (2, 147, 299, 228.4)]
)
def test_raster_counts(label, low, high, mean):
    counts = np.array([geomnist.raster(label, i, N).sum() for i in range(N)])
    assert (counts.min(), counts.max()) == (low, high)
    assert counts.mean() == pytest.approx(mean, abs=0.05)


def test_the_ellipse_grows():
    assert [int(geomnist.raster(2, i, N).sum()) for i in (0, N // 2, N - 1)] == [147, 217, 299]


@pytest.mark.parametrize("i", [0, N // 2, N - 1])
def test_the_triangle_has_its_vertices(i):
    d = np.linspace(-1, 1, N)[i]
    filled = geomnist.raster(0, i, N) > 0
    assert filled[int(16 + d), int(np.ceil(16 - 8 * np.sqrt(3) + d))]
    assert filled[int(26 + d), int(24 + d)] and filled[int(6 + d), int(24 + d)]
    assert not filled[:, int(24 + d) + 1 :].any() and not filled[int(26 + d) + 1 :].any()


def test_intensities_and_range():
    made = geomnist.load(100, 50)
    for label, mean in enumerate((0.2135, 0.1494, 0.2231)):
        images = np.concatenate([made.x_train[made.y_train == label], made.x_val[made.y_val == label]])
        assert images.shape == (150, 32, 32)
        assert images.mean() == pytest.approx(mean, abs=0.001)
    assert -0.01 < made.x_train.min() < 0 and 1 < made.x_train.max() < 1.01


def test_rotation_is_176_degrees_over_all_images():
    """The last image is the shape turned by almost 176 degrees: nearly the mirrored first one."""
    first, last = geomnist.image(1, 0, N, 1.0), geomnist.image(1, N - 1, N, 1.0)
    # its centre is at (15, 15) at first and at (17, 17), turned around 15.5, at last: about (14, 14)
    centre = [np.array(np.unravel_index(np.argmax(x > 0.99), x.shape)) for x in (first, last)]
    assert np.abs(centre[0] - centre[1]).max() <= 3
    assert np.abs(geomnist.image(1, 0, N, 1.0) - geomnist.image(1, 0, N, 0.9)).max() > 0.01


def test_seeds_splits_and_digests():
    a, b = geomnist.load(10, 5, 0), geomnist.load(10, 5, 1)
    assert np.abs(a.x_train - b.x_train).max() > 0.1
    np.testing.assert_array_equal(a.x_train, geomnist.load.__wrapped__(10, 5, 0).x_train)
    flat = np.concatenate([a.x_train, a.x_val]).reshape(45, -1)
    assert len(np.unique(flat, axis=0)) == 45
    np.testing.assert_array_equal(a.y_train, np.repeat([0, 1, 2], 10))


@pytest.mark.parametrize("p", [0, 0.1, 0.3, 0.5, 2 / 3, 0.8, 1])
def test_corruption(p):
    clean = np.repeat([0, 1, 2], 500)
    labels = geomnist.corrupt(clean, p)
    count = int(np.floor(p * 500 + 1e-9))
    assert (labels != clean).sum() == 3 * count
    for label in range(3):
        smaller, larger = (np.sum(labels[clean == label] == other) for other in range(3) if other != label)
        assert (smaller, larger) == (count // 2, count - count // 2)


def test_random_labels_of_the_paper():
    labels = geomnist.corrupt(np.repeat([0, 1, 2], 500), 2 / 3)
    assert np.bincount(labels).tolist() == [499, 500, 501]
