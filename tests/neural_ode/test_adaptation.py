"""The worked examples of the adaptation rules."""

import math

import pytest
import torch

from reprod.neural_ode.adaptation import (
    StepRule,
    ToleranceRule,
    adapt_step,
    adapt_tolerance,
    initial_step,
    initial_tolerance,
    refined,
    remember,
    select_test_solver,
)


@pytest.mark.parametrize(
    ("solver", "h", "test", "h_test"),
    [
        ("euler", 1, "midpoint", 0.141421),
        ("euler", 0.5, "midpoint", 0.1),
        ("euler", 1 / 50, "midpoint", 0.02),
        ("euler", 1 / 64, "midpoint", 1 / 64),
        ("midpoint", 1, "rk4", 0.376060),
        ("midpoint", 1 / 8, "rk4", 0.125),
    ],
)
def test_select_test_solver(solver, h, test, h_test):
    assert select_test_solver(StepRule(solver), h) == (test, pytest.approx(h_test, abs=1e-6))


@pytest.mark.parametrize(
    ("solver", "check_with", "power"), [("euler", None, 1), ("euler", "rk4", 3), ("midpoint", None, 2)]
)
def test_test_step_is_continuous_and_accurate_enough(solver, check_with, power):
    rule = StepRule(solver, check_with=check_with)
    switch = 50 ** (-1 / power)
    below, above = (select_test_solver(rule, switch * factor)[1] for factor in (1 - 1e-9, 1 + 1e-9))
    assert below == pytest.approx(above, rel=1e-6)
    order, test_order = {"euler": 1, "midpoint": 2}[solver], {1: 2, 3: 4, 2: 4}[power]
    for h in torch.logspace(-3, 0, 50, dtype=torch.float64).tolist():
        assert select_test_solver(rule, h)[1] ** test_order <= h**order / 50 * (1 + 1e-9)


def test_step_adaptation_of_rk4_is_not_defined():
    with pytest.raises(ValueError, match="rk4"):
        select_test_solver(StepRule("rk4"), 0.1)


@pytest.mark.parametrize(("n", "then"), [(100, 200), (250, 500), (400, 450), (500, 500), (1000, 750)])
def test_refined_number_of_steps(n, then):
    assert 1 / refined(StepRule("euler"), 1 / n) == pytest.approx(then)


def accuracies(**by_solver):
    """An `evaluate` that gives each solver its accuracy, whatever the step, and counts ten evaluations."""
    return lambda solver, value: (by_solver[solver], 10)


@pytest.mark.parametrize(
    ("h", "test", "coarse", "then"),
    [
        (0.2, 0.5, 0.9, 0.1),  # the test solver disagrees: halved
        (0.2, 0.9, 0.9, 0.22),  # agrees, and so does the coarser step: grown
        (0.95, 0.9, 0.9, 1.0),  # but never beyond 1
        (0.2, 0.9, 0.79, 0.2),  # the coarser step would disagree with the test solver: kept
        (0.2, 0.8, 0.9, 0.22),  # a difference of exactly the threshold is none
        (0.2, 1.0, 0.95, 0.22),  # it counts how far, not which way ...
        (0.2, 1.05, 0.9, 0.1),  # ... a test solver that scores better refines, too
        (0.2, 0.82, 0.78, 0.22),  # the coarser step is compared with the test solver, not with the training ...
        (0.2, 0.98, 0.86, 0.2),  # ... and has to agree with it
    ],
)
def test_step_update(h, test, coarse, then):
    state = {"step_size": h}
    check = adapt_step(StepRule("euler", threshold=0.1 + 1e-12), state, 0.9, accuracies(midpoint=test, euler=coarse))
    assert state["step_size"] == pytest.approx(then)
    assert check.value == state["step_size"]
    assert check.evaluations == (10 if math.isnan(check.coarse_accuracy) else 20)


@pytest.mark.parametrize("threshold", [1.1, -1.0])
def test_extreme_thresholds(threshold):
    state, seen = {"step_size": 1 / 64}, []
    for _ in range(60):
        adapt_step(StepRule("euler", threshold=threshold), state, 1.0, accuracies(midpoint=0.0, euler=0.5))
        seen.append(1 / state["step_size"])
    if threshold > 1:  # never triggers: grows by 1.1 to 1
        assert seen[:2] == pytest.approx([64 / 1.1, 64 / 1.21])
        assert seen[-1] == 1.0
    else:  # always triggers: doubles, then half-way to 500
        assert seen[:5] == pytest.approx([128, 256, 378, 439, 469.5])
        assert seen[-1] == pytest.approx(500)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_initial_step_of_a_linear_field(order):
    x = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]], dtype=torch.float64)  # norms 5 and 1
    d0, d1, d2 = 3.0, 6.0, 12.0  # of x, -2x and (f(x + h0 f) - f) / h0 = 4x
    expected = min(100 * 0.01 * d0 / d1, (0.01 / max(d1, d2)) ** (1 / (order + 1)))
    assert initial_step(lambda z: -2 * z, x, order) == pytest.approx(expected, rel=1e-6)


def test_initial_step_of_a_field_that_vanishes():
    assert initial_step(torch.zeros_like, torch.ones(2, 1, 2), 1) == pytest.approx(1e-6)


def tolerance_state(tol, nfe=(20,) * 5):
    state = initial_tolerance(ToleranceRule("dopri5", initial_tol=tol))
    for n in nfe:
        remember(state, n)
    return state


@pytest.mark.parametrize(
    ("test", "coarse", "coarse_nfe", "then"),
    [
        (0.5, 0.9, 14, 0.5e-4),  # disagrees: halved
        (0.9, 0.9, 14, 1.1e-4),  # agrees: grown
        (0.9, 0.7, 14, 1e-4),  # the coarser one disagrees: kept
        (0.82, 0.78, 14, 1.1e-4),  # it is compared with the test solver, not with the training
        (0.98, 0.86, 14, 1e-4),
        (0.9, 0.9, 20, 1e-4),  # the coarser one takes the very steps of the last five iterations: kept
    ],
)
def test_tolerance_update(test, coarse, coarse_nfe, then):
    state = tolerance_state(1e-4)

    def evaluate(solver, tol):
        assert solver == "dopri5"
        return (coarse, coarse_nfe) if tol > 1e-4 else (test, 26)

    check = adapt_tolerance(ToleranceRule("dopri5"), state, 0.9, evaluate)
    assert state["tol"] == pytest.approx(then)
    assert check.test_value == pytest.approx(1e-5)


def test_a_test_that_takes_more_evaluations_than_training_is_not_refined():
    calls = []

    def evaluate(solver, tol):
        calls.append(tol)
        return 0.9, 21  # of the training: 20

    adapt_tolerance(ToleranceRule("dopri5"), tolerance_state(1e-4), 0.9, evaluate)
    assert calls == pytest.approx([1e-5, 1.1e-4])


@pytest.mark.parametrize(("tol", "tests"), [(1e-4, 8 + 1), (1e-10, 1 + 1)])
def test_tolerance_of_the_test_is_refined_until_it_takes_more_evaluations_or_the_guard(tol, tests):
    calls = []

    def evaluate(solver, tol):
        calls.append(tol)
        return 0.0, 20  # never more than the training

    adapt_tolerance(ToleranceRule("dopri5"), state := tolerance_state(tol), 1.0, evaluate)
    assert min(calls) >= 0.99e-12
    assert len(calls) <= tests
    assert state["tol"] == tol / 2
    assert calls[:2] == pytest.approx([tol / 10, tol / 100])


def test_fehlberg_is_checked_by_dopri5():
    calls = []

    def evaluate(solver, tol):
        calls.append((solver, tol))
        return 1.0, 30

    adapt_tolerance(ToleranceRule("fehlberg2"), tolerance_state(1e-3), 1.0, evaluate)
    assert calls == [("dopri5", pytest.approx(2e-4)), ("fehlberg2", pytest.approx(1.1e-3))]


def test_remember_keeps_five():
    assert tolerance_state(1e-6, range(9))["nfe"] == [4, 5, 6, 7, 8]
