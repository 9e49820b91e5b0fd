"""SGLD and MALA against targets whose answers are known in closed form."""

import math

import numpy as np
import pytest
import torch

from reprod.learning_coefficient import Sampling, sample
from reprod.learning_coefficient.dln import DlnPotential
from reprod.learning_coefficient.exact import bottleneck_energy, quadratic_sgld_estimate
from reprod.learning_coefficient.mala import acceptance_probability

pytestmark = pytest.mark.filterwarnings("ignore:the estimate exceeds", "ignore:only", "ignore:the halves")


class Formula:
    """A potential given by a formula: L(w), batched over chains; n is only nominal."""

    device, dtype, num_data = torch.device("cpu"), torch.float32, 2

    def __init__(self, dimension, formula):
        self.dimension, self.formula = dimension, formula

    def loss(self, params, block=None):
        return self.formula(params)

    def loss_and_gradient(self, params, block=None):
        with torch.enable_grad():
            w = params.detach().requires_grad_()
            loss = self.formula(w)
            (gradient,) = torch.autograd.grad(loss.sum(), w)
        return loss.detach(), gradient


def run(potential, centre=None, **settings):
    settings = {"nbeta": 1.0, "batch_size": None, "burn_in": 0.0, **settings}
    return sample(potential, torch.zeros(potential.dimension) if centre is None else centre, Sampling(**settings))


@pytest.mark.parametrize(
    ("h", "gamma", "step_size", "steps", "burn_in"),
    [
        ([100.0] * 10, 1.0, 1e-3, 1000, 0.0),
        ([1e4, 1e3, 1e2, 10.0, 1.0], 1.0, 1e-4, 1000, 0.5),
        ([100.0] * 10, 100.0, 1e-3, 500, 0.0),
        ([3000.0] * 10, 1.0, 1e-3, 200, 0.5),
    ],
)
@pytest.mark.parametrize("trace", ["before", "after"])
def test_quadratic_law(h, gamma, step_size, steps, burn_in, trace):
    curvatures = torch.tensor(h)
    potential = Formula(len(h), lambda w: 0.5 * (curvatures * w.square()).sum(-1))
    got = run(
        potential, step_size=step_size, gamma=gamma, num_steps=steps, chains=100, burn_in=burn_in, trace=trace, seed=3
    )
    expected = quadratic_sgld_estimate(h, steps, gamma=gamma, step_size=step_size, trace=trace, burn_in=burn_in)
    assert got.llc == pytest.approx(expected, abs=4 * got.standard_error)
    assert got.standard_error < 0.03 * expected


@pytest.mark.parametrize("k", [1, 2, 3])
def test_mala_on_a_power_gives_one_over_two_k(k):
    """E[nbeta w^{2k}] = 1/(2k) exactly, for a flat prior and every nbeta."""
    got = run(
        Formula(1, lambda w: w[:, 0] ** (2 * k)),
        sampler="mala", gamma=0.0, nbeta=5.0, step_size=0.15, num_steps=2000, chains=60, burn_in=0.2,
    )  # fmt: skip
    assert got.llc == pytest.approx(1 / (2 * k), abs=4 * got.standard_error)
    assert got.standard_error < 0.02


@pytest.mark.parametrize(("p", "q"), [(1, 1), (2, 3), (4, 2)])
@pytest.mark.parametrize(("sampler", "step_size"), [("mala", 2e-2), ("sgld", 1e-3)])
def test_bottleneck_network_against_quadrature(p, q, sampler, step_size):
    """A [p, 1, q] network at zero: exact posterior mean by quadrature (normal crossing for p = q = 1)."""
    potential = DlnPotential((p, 1, q), torch.zeros(p, q), torch.eye(p), num_data=1000)
    steps, u = (2500, 100.0)
    got = run(
        potential,
        sampler=sampler,
        step_size=step_size,
        gamma=1.0,
        nbeta=u * q / 2,
        num_steps=steps,
        chains=80,
        burn_in=0.3,
    )
    # SGLD at this step size is 3 % high, by the spec's measurement.
    slack = 0.06 if sampler == "sgld" else 0.0
    assert got.llc == pytest.approx(bottleneck_energy(p, q, u), abs=4 * got.standard_error + slack)


HALF_SQUARE = [
    ((1.0, 2.0), (1.5, 2.5), 0.1, 0.957193),
    ((0.0, 0.0), (1.5, 5.5), 0.1, 0.6661436),
    ((1.0, 1.0), (1.5, 0.5), 0.5, 0.9692332),
    ((0.0, 0.0), (10.5, 5.5), 0.1, 0.17268492),
    ((0.0, 0.0), (10.5, 5.5), 0.5, 0.00015359),
]


@pytest.mark.parametrize(("w", "new", "step_size", "expected"), HALF_SQUARE)
def test_acceptance_unit_values(w, new, step_size, expected):
    """U = ||x||^2/2, so that a point is its own gradient."""
    a, b = torch.tensor(w, dtype=torch.float64), torch.tensor(new, dtype=torch.float64)
    got = acceptance_probability(a, a, a @ a / 2, b, b, b @ b / 2, step_size)
    assert float(got) == pytest.approx(expected, rel=1e-4)  # published in float32


@pytest.mark.parametrize(("w", "new", "step_size", "expected"), HALF_SQUARE)
def test_acceptance_equals_its_definition(w, new, step_size, expected):
    a, b = np.array(w), np.array(new)
    forward = -np.square(b - a + step_size / 2 * a).sum() / (2 * step_size)
    backward = -np.square(a - b + step_size / 2 * b).sum() / (2 * step_size)
    direct = min(1.0, math.exp(backward - forward + a @ a / 2 - b @ b / 2))
    a, b = torch.tensor(w, dtype=torch.float64), torch.tensor(new, dtype=torch.float64)
    assert float(acceptance_probability(a, a, a @ a / 2, b, b, b @ b / 2, step_size)) == pytest.approx(direct)


def test_acceptance_tends_to_one_with_the_step_size():
    h = torch.full((20,), 50.0)
    potential = Formula(20, lambda w: 0.5 * (h * w.square()).sum(-1))
    means = [
        run(potential, sampler=sampler, step_size=eps, num_steps=300, chains=20, acceptance_every=20).acceptance.mean()
        for sampler in ("sgld", "mala")
        for eps in (3e-2, 1e-2, 1e-3)
    ]
    for coarse, middle, fine in (means[:3], means[3:]):
        assert coarse < middle < fine
        assert fine > 0.99


def test_sgld_records_the_acceptance_of_its_own_steps():
    """The diagnostic of step t, recomputed from the positions of two runs that differ by one step."""
    h = torch.linspace(1, 60, 5)
    potential = Formula(5, lambda w: 0.5 * (h * w.square()).sum(-1))
    settings = {"step_size": 2e-2, "gamma": 3.0, "chains": 6, "acceptance_every": 1, "seed": 4}
    shorter, longer = run(potential, num_steps=7, **settings), run(potential, num_steps=8, **settings)
    a, b = shorter.params.double(), longer.params.double()
    k = (h + 3.0).double()
    again = acceptance_probability(
        a, k * a, (k * a.square()).sum(-1) / 2, b, k * b, (k * b.square()).sum(-1) / 2, 2e-2
    )  # fmt: skip
    np.testing.assert_allclose(longer.acceptance[:, 7], again.numpy(), rtol=1e-4)
    assert longer.acceptance_steps.tolist() == list(range(8))


def test_preconditioner_is_a_change_of_variables():
    """Sampling w with preconditioner p is sampling w/sqrt(p) without one: the same trace for the same noise."""
    p = torch.tensor([4.0, 0.25, 100.0, 1.0])
    plain = Formula(4, lambda w: (w.square() + 0.1 * w**4).sum(-1))
    stretched = Formula(4, lambda w: ((w / p.sqrt()).square() + 0.1 * (w / p.sqrt()) ** 4).sum(-1))
    for sampler in ("sgld", "mala"):
        settings = Sampling(
            sampler=sampler, nbeta=50.0, batch_size=None, gamma=0.0, step_size=1e-3, num_steps=100, chains=3
        )
        a = sample(plain, torch.zeros(4), settings)
        b = sample(stretched, torch.zeros(4), settings, preconditioner=p)
        np.testing.assert_allclose(a.loss_trace, b.loss_trace, rtol=1e-3, atol=1e-7)


def test_diverged_chains_are_reported_and_left_out():
    potential = Formula(2, lambda w: 0.5 * 100 * w.square().sum(-1))
    factors = torch.tensor([[1.0], [1.0], [1e4], [1.0]]).expand(4, 2)
    settings = Sampling(nbeta=1.0, batch_size=None, step_size=1e-3, num_steps=400, chains=4, burn_in=0.2)
    with pytest.warns(UserWarning, match="1 of 4 chains diverged"):
        got = sample(potential, torch.zeros(2), settings, preconditioner=factors)
    alone = sample(potential, torch.zeros(2), settings)
    assert got.diverged == 1
    assert got.diverged_at[2] >= 0
    assert math.isnan(got.per_chain[2])
    assert got.llc == pytest.approx(alone.per_chain[[0, 1, 3]].mean(), rel=1e-6)


def test_a_chain_that_ran_away_to_finite_numbers_has_diverged_too():
    """The loss levels off far out, so that an unstable chain stays finite."""
    potential = Formula(2, lambda w: 1e5 * torch.tanh(w.square().sum(-1) / 1e4))
    factors = torch.tensor([[1.0], [1e6], [1.0]]).expand(3, 2)
    settings = Sampling(nbeta=1.0, batch_size=None, gamma=0.0, step_size=1e-3, num_steps=400, chains=3, burn_in=0.2)
    with pytest.warns(UserWarning, match="1 of 3 chains diverged"):
        got = sample(potential, torch.zeros(2), settings, preconditioner=factors)
    assert np.isfinite(got.loss_trace).all()
    assert got.diverged_at[1] > 0
    assert got.llc == pytest.approx(np.nanmean(got.per_chain))
    assert got.llc < 2


def test_single_wild_minibatches_are_no_divergence():
    from reprod.learning_coefficient.diagnostics import first_divergence

    energy = np.random.default_rng(0).normal(1.0, 1.0, (2, 400))
    energy[0, 10] = 3e3
    assert first_divergence(energy, energy[:, 200:], 1000.0).tolist() == [-1, -1]
    energy[1, 300] = np.inf
    assert first_divergence(energy, energy[:, 200:], 1000.0).tolist() == [-1, 300]


def test_all_chains_diverged_gives_nan_and_stops_early():
    potential = Formula(2, lambda w: 0.5 * 100 * w.square().sum(-1))
    with pytest.warns(UserWarning, match="2 of 2 chains diverged"):
        got = run(potential, step_size=0.2, num_steps=5000, chains=2)
    assert math.isnan(got.llc)
    assert np.isnan(got.loss_trace[:, -1]).all()
    assert "nan" in str(got)


def test_a_chain_that_is_still_climbing_is_named():
    potential = Formula(50, lambda w: 0.5 * w.square().sum(-1))
    with pytest.warns(UserWarning, match="not equilibrated"):
        got = run(potential, step_size=1e-3, gamma=0.0, num_steps=400, chains=4)
    assert got.llc < 25


def test_chains_continue_from_their_parts():
    """A checkpoint is the parts alone: the second half of a run is the same in a fresh object."""
    from reprod.learning_coefficient.estimate import Chains
    from reprod.training import State

    potential = Formula(3, lambda w: 0.5 * 30 * w.square().sum(-1))
    for sampler in ("sgld", "mala"):
        settings = Sampling(
            sampler=sampler, nbeta=1.0, batch_size=None, step_size=1e-2, num_steps=40, chains=3, acceptance_every=3
        )
        whole, first, second = (Chains(potential, torch.zeros(3), settings) for _ in range(3))
        for step in range(40):
            whole.step(step)
        for step in range(23):
            first.step(step)
        State(**second.parts()).load(State(**first.parts()).dump())
        for step in range(23, 40):
            second.step(step)
        np.testing.assert_array_equal(second.estimate().loss_trace, whole.estimate().loss_trace)
        np.testing.assert_array_equal(second.estimate().acceptance, whole.estimate().acceptance)
