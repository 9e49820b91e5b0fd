"""Exact learning coefficients against tables, two independent oracles and the symmetries they must have."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprod.learning_coefficient.exact import (
    bottleneck_energy,
    dln_dimension,
    dln_functional_rank,
    dln_hessian_trace,
    dln_learning_coefficient,
    dln_rank_profiles,
    longest_chain,
    normal_crossing_learning_coefficient,
    quadratic_sgld_estimate,
    reduced_rank_learning_coefficient,
    staircase_curvatures,
    staircase_loss,
    staircase_plateau,
    staircase_regular_coefficient,
    two_layer_local_learning_coefficient,
)


@pytest.mark.parametrize(
    ("widths", "rank", "value", "multiplicity"),
    [
        ((3, 2, 2), 2, "3", 1),
        ((5, 3, 5), 0, "13/2", 2),
        ((5, 3, 5), 3, "21/2", 1),
        ((4, 3, 8), 3, "27/2", 1),
        ((8, 3, 4), 3, "27/2", 1),
        ((3, 8, 4), 3, "6", 1),
        ((10, 20, 10), 4, "50", 1),
        ((10, 20, 20, 10), 10, "50", 1),
        ((5, 10, 10, 10, 10, 5), 2, "25/2", 1),
        ((1, 1, 1, 1, 1), 0, "1/2", 4),
        ((4, 4, 4, 4), 0, "11/2", 3),
        ((7, 5, 6, 4, 8), 2, "16", 2),
        ((20, 30, 25, 20, 15), 12, "149", 2),
        ((100,) * 3, 0, "3750", 1),
        ((100,) * 4, 0, "6667/2", 3),
        ((100,) * 6, 0, "3000", 1),
    ],
)
def test_aoyagi_table(widths, rank, value, multiplicity):
    assert dln_learning_coefficient(widths, rank) == (Fraction(value), multiplicity)


@pytest.mark.parametrize("layers", [20, 25, 50, 100])
def test_constant_width_multiplicity_touches_one(layers):
    assert dln_learning_coefficient((100,) * (layers + 1), 0).multiplicity == 1


nets = st.lists(st.integers(1, 8), min_size=2, max_size=6).flatmap(
    lambda widths: st.tuples(st.just(tuple(widths)), st.integers(0, min(widths)))
)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(nets)
def test_closed_form_agrees_with_rank_profiles(net):
    value, profiles = dln_rank_profiles(*net)
    assert dln_learning_coefficient(*net) == (value, longest_chain(profiles))


def test_closed_form_agrees_with_rank_profiles_on_deep_wide_nets():
    rng = np.random.default_rng(0)
    for _ in range(20):
        widths = tuple(int(n) for n in rng.integers(5, 60, size=rng.integers(3, 13)))
        rank = int(rng.integers(0, min(widths) + 1))
        value, profiles = dln_rank_profiles(widths, rank)
        assert dln_learning_coefficient(widths, rank).value == value
        if len(profiles) < 500:
            assert dln_learning_coefficient(widths, rank).multiplicity == longest_chain(profiles)


def test_closed_form_agrees_with_two_layer_formula():
    rng = np.random.default_rng(1)
    for n, h, q in rng.integers(1, 40, size=(5000, 3)).tolist():
        rank = int(rng.integers(0, min(n, h, q) + 1))
        assert dln_learning_coefficient((n, h, q), rank) == reduced_rank_learning_coefficient(n, h, q, rank)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(nets, st.randoms(use_true_random=False))
def test_symmetries_and_bounds(net, random):
    widths, rank = net
    value, multiplicity = dln_learning_coefficient(widths, rank)
    hidden = list(widths[1:-1])
    random.shuffle(hidden)
    assert dln_learning_coefficient((widths[0], *hidden, widths[-1]), rank) == (value, multiplicity)
    assert dln_learning_coefficient(widths[::-1], rank) == (value, multiplicity)
    assert dln_learning_coefficient((*widths[:-1], max(widths), widths[-1]), rank).value <= value
    assert Fraction(rank * (widths[0] + widths[-1] - rank), 2) <= value <= Fraction(dln_dimension(widths), 2)
    assert (2 * value).denominator == 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(nets)
def test_full_rank_is_regular(net):
    widths, _ = net
    rank = min(widths)
    assert dln_learning_coefficient(widths, rank).value == Fraction(rank * (widths[0] + widths[-1] - rank), 2)


def test_local_coefficient_is_at_least_the_global_one():
    assert two_layer_local_learning_coefficient((20, 20, 20), (5, 20), 5) == 200
    assert two_layer_local_learning_coefficient((20, 20, 20), (20, 5), 5) == 200
    assert dln_learning_coefficient((20, 20, 20), 5).value == 172
    assert two_layer_local_learning_coefficient((20, 20, 20), (12, 13), 12) == 192
    with pytest.raises(ValueError, match="no weights of ranks"):
        two_layer_local_learning_coefficient((4, 4, 4), (4, 4), 1)


@pytest.mark.parametrize(
    ("widths", "rank", "match"),
    [
        ((5,), 0, "at least one layer"),
        ((5, 0), 0, "positive integers"),
        ((5, 2.5), 0, "positive integers"),
        ((5, 3), 4, "smallest width, 3, got 4"),
        ((5, 3), -1, "rank must be"),
        ((5, 3), 1.5, "rank must be"),
    ],
)
def test_bad_widths_and_ranks(widths, rank, match):
    with pytest.raises(ValueError, match=match):
        dln_learning_coefficient(widths, rank)


@pytest.mark.parametrize(
    ("exponents", "value", "multiplicity"),
    [((0, 1), "1/2", 1), ((1, 1), "1/2", 2), ((1, 2), "1/4", 1), ((2, 2), "1/4", 2), ((1, 3), "1/6", 1)],
)
def test_normal_crossings(exponents, value, multiplicity):
    assert normal_crossing_learning_coefficient(exponents) == (Fraction(value), multiplicity)


@pytest.mark.parametrize(
    ("curvatures", "gamma", "step_size", "steps", "burn_in", "expected"),
    [
        ([100.0] * 10, 1.0, 1e-3, None, 0.0, 5.078733),
        ([100.0] * 10, 1.0, 1e-3, 2000, 0.0, 5.052940),
        ([1e4, 1e3, 1e2, 10.0, 1.0], 1.0, 1e-4, None, 0.0, 2.379929),
        ([1e4, 1e3, 1e2, 10.0, 1.0], 1.0, 1e-4, 5000, 0.0, 2.128446),
        ([1e4, 1e3, 1e2, 10.0, 1.0], 1.0, 1e-4, 5000, 0.5, 2.250701),
        ([100.0] * 10, 100.0, 1e-3, None, 0.0, 2.631579),
        ([3.0] * 6, 0.0, 1e-9, None, 0.0, 3.0),
    ],
)
def test_quadratic_law(curvatures, gamma, step_size, steps, burn_in, expected):
    got = quadratic_sgld_estimate(curvatures, steps, gamma=gamma, step_size=step_size, burn_in=burn_in)
    assert got == pytest.approx(expected, abs=2e-6)


def test_quadratic_law_refuses_an_unstable_chain():
    with pytest.raises(ValueError, match="unstable"):
        quadratic_sgld_estimate([5000.0], 10, gamma=0.0, step_size=1e-3)


NBETA_SADDLE = 10_000 / np.log(10_000)


@pytest.mark.parametrize(
    ("steps", "trace", "expected"),
    [(156, "after", [0, 4.84, 8.75, 11.63, 13.44, 14.27]), (100, "before", [0, 4.73, 8.55, 11.36, 13.13, 14.02])],
)
def test_staircase_plateaus(steps, trace, expected):
    got = [staircase_plateau(r, nbeta=NBETA_SADDLE, num_steps=steps, trace=trace) for r in range(6)]
    assert got == pytest.approx(expected, abs=0.006)


def test_staircase_counts_directions_and_losses():
    for r in range(6):
        h = staircase_curvatures((50, 40, 30, 20, 10), r, 5, 1.0)
        assert (h > 0).sum() == r * (10 - r) == 2 * staircase_regular_coefficient(r)
    assert [staircase_loss(r) for r in range(6)] == [1100, 600, 280, 100, 20, 0]


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        (1, 1, (0.33877, 0.40668, 0.43472)),
        (2, 3, (0.93944, 0.99375, 0.99937)),
        (3, 3, (1.26703, 1.38531, 1.42491)),
        (4, 2, (0.98067, 0.99958, 0.99999)),
        (1, 3, (0.48949, 0.49978, 0.50000)),
    ],
)
def test_bottleneck_quadrature(p, q, expected):
    assert [bottleneck_energy(p, q, u) for u in (1e2, 1e4, 1e6)] == pytest.approx(expected, abs=1e-5)


def random_net(rng, widths, ranks):
    return [
        rng.normal(size=(a, r)) @ rng.normal(size=(r, b)) / r
        for a, b, r in zip(widths, widths[1:], ranks, strict=False)
    ]


def jacobian(weights, x):
    """Columns: derivative of the flattened outputs with respect to each parameter."""
    columns = []
    for k, w in enumerate(weights):
        a = x @ np.linalg.multi_dot([np.eye(x.shape[1]), *weights[:k], np.eye(w.shape[0])])
        b = np.linalg.multi_dot([np.eye(w.shape[1]), *weights[k + 1 :], np.eye(weights[-1].shape[1])])
        columns.append(np.einsum("ni,jo->noij", a, b).reshape(len(x) * b.shape[1], -1))
    return np.concatenate(columns, axis=1)


@pytest.mark.parametrize("seed", range(8))
def test_functional_rank_and_hessian_trace_against_the_jacobian(seed):
    rng = np.random.default_rng(seed)
    widths = rng.integers(2, 7, size=rng.integers(3, 6)).tolist()
    ranks = [int(rng.integers(1, min(a, b) + 1)) for a, b in pairwise(widths)]
    weights, x = random_net(rng, widths, ranks), rng.normal(size=(20, widths[0]))
    j = jacobian(weights, x)
    assert dln_functional_rank(weights) == np.linalg.matrix_rank(j)
    # At zero residual the Hessian of the mean squared error is 2 J^T J/(N n_L).
    assert dln_hessian_trace(weights, x) == pytest.approx(2 * np.square(j).sum() / (len(x) * widths[-1]))


def test_functional_rank_of_the_published_example():
    rng = np.random.default_rng(0)
    assert dln_functional_rank(random_net(rng, (10, 20, 20, 10), (10, 20, 10))) == 100
