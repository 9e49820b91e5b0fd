"""MNIST's zeros and ones: the counts of the paper and of the documented test subset."""

import numpy as np
import pytest

from reprod import data
from reprod.morse_graph.data import petals, zeros_and_ones

needs_mnist = pytest.mark.skipif(not (data.folder() / "MNIST" / "raw").exists(), reason="needs MNIST")


@needs_mnist
def test_zeros_and_ones():
    train = zeros_and_ones("train")
    assert np.bincount(train.y).tolist() == [5923, 6742]
    assert (train.x.min(), train.x.max(), train.x.dtype) == (0, 255, np.float32)
    assert len(zeros_and_ones("train", first=300).y) == 300


@needs_mnist
def test_documented_test_subset():
    test = zeros_and_ones("test", subset=100)
    assert np.bincount(test.y).tolist() == [48, 52]
    np.testing.assert_allclose(zeros_and_ones("test", subset=100, scale=True).x, test.x / 255)
    assert len(zeros_and_ones("test").y) == 2115


def test_petals():
    assert [len(petals(split).y) for split in ("train", "test")] == [75, 75]
    assert petals("train").digest != petals("train", "train").digest
