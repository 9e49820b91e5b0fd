"""Accuracy of trained networks under their own and other solvers (Ott et al. 2021, figures 1 and 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reprod.neural_ode import batched
from reprod.neural_ode.models import OdeClassifier
from reprod.neural_ode.solvers import MAX_EVALUATIONS, SolverFailure, SolverSetting


def solver_grid(
    value: float, solvers: Iterable[str], factors: Iterable[float], factor_on: str = "step"
) -> list[tuple[float, SolverSetting]]:
    """Every solver with every factor, and the factor beside it: h_test = factor h (tol_test = factor tol), or with
    factor_on = "nsteps" N_test = factor N, that is h_test = h / factor."""
    factors = tuple(factors)
    return [(c, SolverSetting(s, value * c if factor_on == "step" else value / c)) for s in solvers for c in factors]


def as_input(x: Tensor) -> Tensor:
    """Pixels 0 ... 255 as numbers in [0, 1]; anything else as it is."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def hits(logits: Tensor, y: Tensor) -> Tensor:
    """Number of right predictions along the second last axis of logits (..., n, n_classes). A row of logits with a
    number that is not finite is an error, whatever its largest entry."""
    return ((logits.argmax(-1) == y) & logits.isfinite().all(-1)).sum(-1)


def accuracy(logits: Tensor, y: Tensor) -> float:
    """hits / n, whatever the size of the batches: the original divided by the nominal batch size."""
    return int(hits(logits, y)) / len(y)


class Evaluated(NamedTuple):
    """Accuracy and evaluations (mean per batch) of one or, with a leading axis, several networks; `gave_up` is the
    share of the batches whose solve failed."""

    accuracy: np.ndarray
    evaluations: np.ndarray
    gave_up: np.ndarray


@torch.no_grad()
def evaluate(model: OdeClassifier, x: Tensor, y: Tensor, tests: Sequence[SolverSetting], batch_size: int) -> Evaluated:
    """Accuracy (tests,) of one network on (x, y).

    An adaptive solver's steps depend on its batch, so that batch_size is that of the training. A solve that fails
    counts as wrong in all its batch. Tests that take the same steps are solved once.
    """

    def one(test: SolverSetting) -> tuple[float, float, float]:
        right, nfe, batches, failed = torch.zeros((), dtype=torch.long, device=x.device), 0, 0, 0
        for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
            try:
                z, evaluations = model.flow(as_input(xb), test)
                right += hits(model.classify(z), yb)
                nfe += evaluations.forward
            except SolverFailure:
                nfe += MAX_EVALUATIONS
                failed += 1
            batches += 1
        return int(right) / len(y), nfe / batches, failed / batches

    return _each(tests, one)


@torch.no_grad()
def evaluate_batched(
    kernel: batched.Kernel, theta: Tensor, x: Tensor, y: Tensor, tests: Sequence[SolverSetting]
) -> Evaluated:
    """Accuracy (S, tests) of the networks theta (S, P) on x (n, d), y (n,) under fixed-step solvers, all networks in
    one solve."""

    def one(test: SolverSetting) -> tuple[np.ndarray, float, float]:
        logits, nfe = batched.logits(kernel, theta, x, test)
        return hits(logits, y).cpu().numpy() / len(y), nfe, 0.0

    table = _each(tests, one)
    evaluations, gave_up = (np.tile(values, (len(theta), 1)) for values in table[1:])
    return Evaluated(table.accuracy.T.copy(), evaluations, gave_up)


def _each(tests: Sequence[SolverSetting], one: Callable[[SolverSetting], tuple]) -> Evaluated:
    done: dict[object, tuple] = {}
    for test in tests:
        if test.same_steps() not in done:
            done[test.same_steps()] = one(test)
    results = [done[test.same_steps()] for test in tests]
    return Evaluated(*(np.array(values) for values in zip(*results, strict=True)))
