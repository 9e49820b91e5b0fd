"""Images drawn in CIFAR-10's shape."""

import numpy as np
import pytest

from reprod.data import images


def test_the_same_every_time_and_not_the_same_in_both_splits():
    a, b = images.synthetic("train", 200), images.synthetic("train", 200)
    assert a.digest == b.digest != images.synthetic("test", 200).digest
    assert a.pixels.shape == (200, 3, 32, 32) and a.pixels.dtype == np.uint8 and len(a) == 200
    assert set(a.labels) == set(range(10))


def test_these_are_the_images_that_runs_have_recorded():
    assert images.synthetic("test", 200).digest.startswith("ef350a45c8a614f4")


@pytest.mark.parametrize("classes", [2, 10])
def test_a_class_is_nearest_to_its_own_mean(classes):
    train, test = (images.synthetic(split, 40 * classes, classes=classes) for split in ("train", "test"))
    assert set(train.labels) == set(range(classes))
    means = np.stack([train.pixels[train.labels == k].mean(0) for k in range(classes)])
    distances = ((test.pixels[:, None] - means) ** 2).sum((2, 3, 4))
    assert (distances.argmin(1) == test.labels).mean() > 0.99
