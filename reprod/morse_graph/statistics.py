"""What Eslami et al. (2021) plot about an ensemble of R networks (section 2.4 of the spec), and a permutation test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def _confusion(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Counts (R, true class, predicted class) for predictions (R, n) of labels (n,)."""
    cell = true * classes + predicted + classes**2 * np.arange(len(predicted))[:, None]
    counts = np.bincount(cell.ravel(), minlength=len(predicted) * classes**2)
    return counts.reshape(-1, classes, classes).astype(float)


def _mean_over_present(share: np.ndarray, total: np.ndarray) -> np.ndarray:
    present = total > 0
    ratio = np.divide(share, total, out=np.zeros_like(share), where=present)
    return ratio.sum(axis=1) / present.sum(axis=1)


def accuracy_swapped(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """The paper's "balanced accuracy" (R,): its arguments are swapped, so it is the mean over the *predicted* classes
    that occur of P(true = c | predicted = c). predicted (R, n) integers, true (n,)."""
    counts = _confusion(predicted, true, classes)
    return _mean_over_present(np.einsum("rcc->rc", counts), counts.sum(axis=1))


def accuracy_balanced(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Balanced accuracy (R,): the mean over the true classes of P(predicted = c | true = c)."""
    counts = _confusion(predicted, true, classes)
    return _mean_over_present(np.einsum("rcc->rc", counts), counts.sum(axis=2))


def ensemble_entropy(prob: np.ndarray) -> np.ndarray:
    """Entropy in nats of the mean prediction, one value for each test point (n,): H(mean_r prob[r]).

    prob (R, n, C); between 0 and ln C.
    """
    mean = np.asarray(prob, dtype=float).mean(axis=0)
    mean /= mean.sum(axis=1, keepdims=True)
    return -(mean * np.log(np.where(mean > 0, mean, 1.0))).sum(axis=1)


def weight_spread(final: np.ndarray) -> np.ndarray:
    """Population standard deviation over networks of each kernel weight (P,); final (R, P)."""
    return np.asarray(final, dtype=float).std(axis=0)


@dataclass(frozen=True)
class PermutationTest:
    """statistic: share of the accuracy's variance between regions; p: chance of as much if labels are exchanged;
    groups: region -> (number of networks, mean)."""

    statistic: float
    p: float
    groups: dict[int, tuple[int, float]]


def permutation_test(
    values: np.ndarray, regions: np.ndarray, *, rng: np.random.Generator, permutations: int = 9_999
) -> PermutationTest:
    """Does the region of the start predict the final value? values (R,), regions (R,) integers.

    Statistic eta^2 = sum_g n_g (mean_g - mean)^2 / sum_r (value_r - mean)^2, compared with its values under
    permutations of the regions; p = (1 + #{>= observed}) / (1 + permutations). With a single region, or values that
    are all equal, there is nothing to predict: eta^2 = 0, p = 1.
    """
    values = np.asarray(values, dtype=float)
    labels, member = np.unique(np.asarray(regions), return_inverse=True)
    one_hot = (member[:, None] == np.arange(len(labels))).astype(float)  # (R, groups)
    sizes = one_hot.sum(axis=0)
    centred = values - values.mean()
    total = float((centred**2).sum())
    means = {int(g): (int(sizes[i]), float(values[member == i].mean())) for i, g in enumerate(labels)}
    if len(labels) == 1 or total <= 1e-12 * max(1.0, float((values**2).sum())):
        return PermutationTest(0.0, 1.0, means)
    shuffled = rng.permuted(np.broadcast_to(centred, (permutations, len(values))), axis=1)
    eta = (((np.vstack([centred, shuffled]) @ one_hot) ** 2 / sizes).sum(axis=1)) / total
    exceed = int((eta[1:] >= eta[0] * (1 - 1e-12)).sum())
    return PermutationTest(float(eta[0]), (1 + exceed) / (1 + permutations), means)
