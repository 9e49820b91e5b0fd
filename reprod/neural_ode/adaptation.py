"""Adaptation of the step size or the tolerance during training (Ott et al. 2021, section 5 and supplement B).

At every K-th iteration, between the backward pass and the optimiser step, the batch is solved again by a more accurate
test solver. If the batch accuracy moves by more than a threshold, the trained map is no flow any more and the solver
is refined; otherwise it is coarsened a little, if that does not move the accuracy either.

    rule = StepRule(solver="euler")
    state = {"step_size": initial_step(field, x, order=1)}
    check = adapt_step(rule, state, accuracy, evaluate)           # evaluate(solver, step) -> (accuracy, evaluations)

Rules are constants, states are dicts that an update changes in place, a `Check` tells what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from reprod.errors import Diverged
from reprod.neural_ode.solvers import SOLVERS, Field

State = dict[str, Any]  # step_size (float), or tol (float) and nfe (training evaluations of the last iterations, list)
Evaluate = Callable[[str, float], tuple[float, int]]  # (solver, step or tolerance) -> (batch accuracy, evaluations)


class Check(NamedTuple):
    """One look at the solver. `accuracy` is the training forward pass's, `test_accuracy` that of the test solver,
    `coarse_accuracy` that of the coarser candidate (nan where none was tried); `evaluations` is what it all took;
    `value` the step or tolerance from here on."""

    test_solver: str
    test_value: float
    accuracy: float
    test_accuracy: float
    coarse_accuracy: float
    evaluations: int
    value: float


def initial_step(field: Field, x: Tensor, order: int) -> float:
    """First step size of a solver of this order for z' = f(z) from a batch x (Hairer, Norsett, Wanner I, p. 169).

        h0 = 0.01 d0 / d1,  h1 = (0.01 / max(d1, d2))^(1 / (p + 1)),  h = min(100 h0, h1)
        d0 = |x|,  d1 = |f(x)|,  d2 = |f(x + h0 f(x)) - f(x)| / h0

    |.| is the Euclidean norm along the last axis, averaged over all others: for images the norm of a row of pixels.
    """

    def norm(a: Tensor) -> float:
        return float(a.norm(dim=-1).mean())

    f0 = field(x)
    d0, d1 = norm(x), norm(f0)
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    d2 = norm(field(x + h0 * f0) - f0) / h0
    steepest = max(d1, d2)
    h1 = max(1e-6, 1e-3 * h0) if steepest < 1e-15 else (0.01 / steepest) ** (1 / (order + 1))
    return min(100 * h0, h1)


def first_step(rule: StepRule, field: Field, x: Tensor) -> float:
    """`initial_step`, but no less than 1 / max_steps: where the field hardly moves anything (initial weights that are
    nearly zero) Hairer's rule asks for 10,000 steps, and the rule of refinement would never be where it ends."""
    h = initial_step(field, x, SOLVERS[rule.solver].order)
    if not math.isfinite(h):
        raise Diverged("the field of the untrained network is not finite: there is no first step")
    return max(h, 1 / rule.max_steps)


# -- step size --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepRule:
    """solver: trains; check_with: the test solver (None: the paper's, midpoint for euler and rk4 for midpoint);
    accuracy_factor: the test solver's error proxy h_t^p_t is at most h^p / accuracy_factor."""

    solver: str
    threshold: float = 0.1
    max_steps: int = 500
    shrink: float = 0.5
    grow: float = 1.1
    accuracy_factor: float = 50.0
    check_with: str | None = None


CHECKS = {  # (training solver, check_with) -> test solver
    ("euler", None): "midpoint",
    ("euler", "midpoint"): "midpoint",
    ("euler", "rk4"): "rk4",
    ("midpoint", None): "rk4",
    ("midpoint", "rk4"): "rk4",
}


def select_test_solver(rule: StepRule, step_size: float) -> tuple[str, float]:
    """Solver and step h_t that check a training with step h: h_t = min(h, (h^p / c)^(1 / p_t)).

    euler -> midpoint, sqrt(h / c);  midpoint -> rk4, (h^2 / c)^(1/4);  euler -> rk4, (h / c)^(1/4).
    """
    try:
        test = CHECKS[rule.solver, rule.check_with]
    except KeyError:
        raise ValueError(f"step adaptation of {rule.solver} checked by {rule.check_with} is not defined") from None
    order, test_order = SOLVERS[rule.solver].order, SOLVERS[test].order
    if step_size ** -(test_order - order) > rule.accuracy_factor:
        return test, step_size
    return test, (step_size**order / rule.accuracy_factor) ** (1 / test_order)


def refined(rule: StepRule, step_size: float) -> float:
    """h / 2, or the step half-way (in numbers of steps) to max_steps where h / 2 would exceed those."""
    if 1 / (rule.shrink * step_size) > rule.max_steps:
        if math.floor(1 / step_size + 1e-9) == rule.max_steps:
            return step_size
        return 2 * step_size / (rule.max_steps * step_size + 1)
    return rule.shrink * step_size


def adapt_step(rule: StepRule, state: State, accuracy: float, evaluate: Evaluate) -> Check:
    """Replace state["step_size"] by the one for the next iterations."""
    h = state["step_size"]
    test, h_test = select_test_solver(rule, h)
    test_accuracy, evaluations = evaluate(test, h_test)
    coarse_accuracy = math.nan
    if abs(test_accuracy - accuracy) > rule.threshold:
        h = refined(rule, h)
    else:
        candidate = min(1.0, rule.grow * h)
        coarse_accuracy, more = evaluate(rule.solver, candidate)
        evaluations += more
        if abs(test_accuracy - coarse_accuracy) <= rule.threshold:
            h = candidate
    state["step_size"] = h
    return Check(test, h_test, accuracy, test_accuracy, coarse_accuracy, evaluations, h)


# -- tolerance --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToleranceRule:
    """solver: trains. The refinement of the test tolerance is bounded by max_refinements and min_tol, because an
    evaluation count need not grow with a finer tolerance (the original could loop for ever)."""

    solver: str
    initial_tol: float = 1e-6
    threshold: float = 0.1
    shrink: float = 0.5
    grow: float = 1.1
    max_refinements: int = 8
    min_tol: float = 1e-12


TOLERANCE_CHECKS = {"fehlberg2": ("dopri5", 5.0), "dopri5": ("dopri5", 10.0)}  # test solver, tol / test tol
RECENT = 5  # iterations whose evaluations are compared with those of a coarser tolerance


def initial_tolerance(rule: ToleranceRule) -> State:
    return {"tol": rule.initial_tol, "nfe": []}


def remember(state: State, evaluations: int) -> None:
    """Note the evaluations of one training forward pass: to be called at every iteration."""
    state["nfe"][:] = [*state["nfe"], evaluations][-RECENT:]


def adapt_tolerance(rule: ToleranceRule, state: State, accuracy: float, evaluate: Evaluate) -> Check:
    """Replace state["tol"] by the one for the next iterations; `remember` has been told of the present one."""
    tol, recent = state["tol"], state["nfe"]
    test, finer = TOLERANCE_CHECKS[rule.solver]
    test_tol = tol / finer
    test_accuracy, nfe = evaluate(test, test_tol)
    evaluations = nfe
    for _ in range(rule.max_refinements):
        # a test that needs no more evaluations than the training took the same steps: it tells nothing new
        if nfe > recent[-1] or test_tol / 10 < rule.min_tol:
            break
        test_tol /= 10
        test_accuracy, nfe = evaluate(test, test_tol)
        evaluations += nfe
    coarse_accuracy = math.nan
    if abs(test_accuracy - accuracy) > rule.threshold:
        tol = rule.shrink * tol
    else:
        candidate = rule.grow * tol
        coarse_accuracy, nfe = evaluate(rule.solver, candidate)
        evaluations += nfe
        if abs(test_accuracy - coarse_accuracy) <= rule.threshold and not _same(recent, nfe):
            tol = candidate
    state["tol"] = tol
    return Check(test, test_tol, accuracy, test_accuracy, coarse_accuracy, evaluations, tol)


def _same(recent: Sequence[int], nfe: int) -> bool:
    return len(recent) == RECENT and all(n == nfe for n in recent)
