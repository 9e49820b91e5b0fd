"""Ensemble statistics against scikit-learn and by hand; the permutation test's size and power."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from reprod.morse_graph import statistics


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("classes", [2, 3])
def test_accuracies_are_scikit_learns_in_both_orders(classes):
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 40)
    predicted = np.where(rng.uniform(size=(20, 40)) < 0.6, true, rng.integers(0, classes, (20, 40)))
    predicted[0] = 1  # a network that predicts a single class
    correct = [balanced_accuracy_score(true, p) for p in predicted]
    swapped = [balanced_accuracy_score(p, true) for p in predicted]
    np.testing.assert_allclose(statistics.accuracy_balanced(predicted, true, classes), correct)
    np.testing.assert_allclose(statistics.accuracy_swapped(predicted, true, classes), swapped)


def test_entropy_has_its_bounds():
    sure = np.zeros((5, 4, 3))
    sure[..., 1] = 1
    np.testing.assert_allclose(statistics.ensemble_entropy(sure), 0, atol=1e-12)
    np.testing.assert_allclose(statistics.ensemble_entropy(np.full((5, 4, 3), 1 / 3)), np.log(3))
    split = np.eye(2)[np.array([[0], [1]])]  # two networks, each sure, that disagree
    np.testing.assert_allclose(statistics.ensemble_entropy(split), np.log(2))


def test_spread_is_the_population_deviation():
    np.testing.assert_allclose(statistics.weight_spread(np.array([[0.0, 1.0], [2.0, 1.0]])), [1.0, 0.0])


def test_permutation_test_sees_a_difference_and_only_that():
    rng = np.random.default_rng(0)
    regions = np.repeat([0, 1, -1], [40, 40, 20])
    values = rng.normal(size=100)
    found = statistics.permutation_test(values + 2.0 * (regions == 1), regions, rng=rng, permutations=999)
    assert found.p == pytest.approx(1 / 1000)
    assert found.groups[1][0] == 40
    p = [statistics.permutation_test(rng.normal(size=100), regions, rng=rng, permutations=199).p for _ in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10


def test_permutation_test_with_nothing_to_predict():
    rng = np.random.default_rng(0)
    assert statistics.permutation_test(np.arange(5.0), np.zeros(5, int), rng=rng).p == 1
    assert statistics.permutation_test(np.ones(5), np.arange(5), rng=rng).p == 1
