"""Deep linear networks: truths, data and the fast potential against autograd and the general estimator."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from reprod.learning_coefficient import (
    Batches,
    DlnInputs,
    Sampling,
    dln_potential,
    estimate_dln_llc,
    estimate_llc,
    sample,
    true_weights,
)
from reprod.learning_coefficient.dln import (
    TRUTHS,
    DlnTraining,
    flat,
    product,
    product_rank,
    truncated_normal_weights,
    unflat,
)
from reprod.learning_coefficient.sizes import SIZE_CLASSES, sample_widths
from reprod.training import stream

# Short chains, as most tests run them, are rightly reported as not equilibrated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:not equilibrated", "ignore:the estimate", "ignore:only", "ignore:the halves"
)

WIDTHS = (6, 9, 4, 7)


class Chain(nn.Module):
    """A deep linear network whose parameters lie in memory as those of the fast potential."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.as_tensor(w)) for w in weights])

    def forward(self, x):
        for w in self.weights:
            x = x @ w
        return x


@pytest.fixture
def network():
    weights, _ = true_weights(WIDTHS, rng=np.random.default_rng(3))
    inputs = DlnInputs(300, WIDTHS[0], seed=1).all()
    return weights, inputs


@pytest.mark.parametrize("form", ["rows", "moments", "lazy"])
def test_loss_and_gradient_against_autograd(network, form, monkeypatch):
    weights, x = network
    if form == "lazy":
        monkeypatch.setattr("reprod.learning_coefficient.dln.MOMENT_BYTES", 0)
    potential = dln_potential(
        WIDTHS, product([torch.as_tensor(w) for w in weights]), x, form=form.replace("lazy", "moments")
    )
    params = flat(weights) + 0.1 * torch.randn(3, potential.dimension, generator=torch.Generator().manual_seed(0))
    rows = torch.randperm(300, generator=torch.Generator().manual_seed(1)).view(6, 50)
    block = (potential.epoch(rows), torch.tensor([4, 0, 4]))
    loss, gradient = potential.loss_and_gradient(params, block)
    torch.testing.assert_close(potential.loss(params, block), loss)
    target = x @ product([torch.as_tensor(w) for w in weights])
    for c, turn in enumerate((4, 0, 4)):
        w = params[c].clone().requires_grad_()
        expected = mse_loss(x[rows[turn]] @ product(unflat(w, WIDTHS)), target[rows[turn]])
        expected.backward()
        torch.testing.assert_close(loss[c], expected.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient[c], w.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_optimisers_are_those_of_torch(network, optimizer):
    weights, x = network
    target = product([torch.as_tensor(w) for w in weights])
    potential = dln_potential(WIDTHS, target, x, form="rows")
    start = flat(truncated_normal_weights(WIDTHS, np.random.default_rng(0)))
    ours = DlnTraining(potential, start[None], optimizer=optimizer, learning_rate=0.01, momentum=0.9, batch_size=50)
    model = Chain(unflat(start.clone(), WIDTHS))
    kinds = {"sgd": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9), "adam": lambda p: torch.optim.Adam(p, 0.01)}
    theirs = kinds[optimizer](model.parameters())
    batches = Batches(300, 50, 0)
    turns = batches.turns(1)
    for step in range(12):
        rows = batches.epoch(step // 6)[turns[step % 6, 0]]
        theirs.zero_grad()
        loss = mse_loss(model(x[rows]), x[rows] @ target)
        loss.backward()
        theirs.step()
        assert float(ours.step(step)[0]) == pytest.approx(float(loss), rel=1e-3)
    torch.testing.assert_close(ours.params[0], flat([p.detach() for p in model.parameters()]), rtol=1e-3, atol=1e-4)


def test_bad_weights_and_inputs_are_named(network):
    weights, x = network
    quick = {"num_steps": 5, "batch_size": 20, "step_size": 1e-6, "chains": 1}
    for wrong in ([], [weights[0], weights[0]], [np.ones(3)]):
        with pytest.raises(ValueError, match="weights must be matrices"):
            estimate_dln_llc(wrong, x, **quick)
    with pytest.raises(ValueError, match=r"must be positive integers, got 3.5 and 3"):
        DlnInputs(3.5, 3)
    same = [estimate_dln_llc(weights, rows, **quick).loss_trace for rows in (x, x.numpy())]
    np.testing.assert_array_equal(*same)


def test_rows_are_splitmix64_of_seed_row_and_column():
    inputs = DlnInputs(10**6, 3, seed=4)
    key, mask = int(stream(4, "data/inputs").integers(2**62)), 2**64 - 1

    def uniform(row, column):
        z = (key + 3 * row + column) * 0x9E3779B97F4A7C15 & mask
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return ((z ^ (z >> 31)) >> 40) / 2**24

    index = torch.tensor([[0, 999_999], [17, 0]])
    wanted = [[[20 * uniform(r, c) - 10 for c in range(3)] for r in row] for row in index.tolist()]
    torch.testing.assert_close(inputs.rows(index), torch.tensor(wanted), rtol=1e-6, atol=1e-6)


def test_collapse_identity(network):
    """Full-data loss from the second moment alone: ||R (P - P*)||^2/n_L for any R with R^T R = X^T X/n."""
    weights, x = network
    potential = dln_potential(WIDTHS, torch.zeros(WIDTHS[0], WIDTHS[-1]), x, mode="collapsed")
    direct = (x @ product([torch.as_tensor(w) for w in weights])).square().mean()
    torch.testing.assert_close(potential.loss(flat(weights)[None])[0], direct, rtol=1e-4, atol=0)
    r = torch.linalg.cholesky(potential.moment.double()).T
    by_factor = (r @ product([torch.as_tensor(w).double() for w in weights])).square().sum() / WIDTHS[-1]
    assert float(by_factor) == pytest.approx(float(direct), rel=1e-4)


def test_rows_and_moments_are_the_same_chain(network):
    weights, x = network
    settings = {"step_size": 1e-6, "num_steps": 100, "chains": 3, "batch_size": 60}
    rows, moments = (estimate_dln_llc(weights, x, form=form, **settings) for form in ("rows", "moments"))
    np.testing.assert_allclose(rows.loss_trace, moments.loss_trace, rtol=2e-3, atol=1e-6)


def test_fast_potential_is_the_general_estimator(network):
    weights, x = network
    settings = {"step_size": 1e-6, "num_steps": 100, "chains": 3, "batch_size": 60}
    model = Chain(weights)
    general = estimate_llc(model, mse_loss, (x, model(x).detach()), **settings)
    fast = estimate_dln_llc(weights, x, **settings)
    np.testing.assert_allclose(fast.loss_trace, general.loss_trace, rtol=5e-3, atol=1e-6)
    assert fast.dimension == general.dimension


def test_collapsed_mode_is_full_batch_sgld(network):
    weights, x = network
    settings = {"step_size": 1e-6, "num_steps": 60, "chains": 2}
    model = Chain(weights)
    general = estimate_llc(model, mse_loss, (x, model(x).detach()), batch_size=None, **settings)
    collapsed = estimate_dln_llc(weights, x, mode="collapsed", **settings)
    np.testing.assert_allclose(collapsed.loss_trace, general.loss_trace, rtol=5e-3, atol=1e-6)
    minibatch = estimate_dln_llc(weights, x, batch_size=60, **settings)
    assert not np.allclose(collapsed.loss_trace[:, 1:], minibatch.loss_trace[:, 1:], rtol=0.02)


def test_collapsed_potential_refuses_minibatches(network):
    weights, x = network
    potential = dln_potential(WIDTHS, torch.zeros(6, 7), x, mode="collapsed")
    with pytest.raises(ValueError, match="only through its second moment"):
        sample(potential, flat(weights), Sampling(batch_size=10, num_steps=3))


def test_estimate_matches_the_exact_value_of_a_regular_network():
    """Wide hidden layer at full rank: lambda = n_0 n_L/2 = 10, D = 90."""
    weights = truncated_normal_weights((4, 10, 5), np.random.default_rng(0))
    inputs = DlnInputs(20_000, 4, seed=0)
    for mode in ("minibatch", "collapsed"):
        got = estimate_dln_llc(weights, inputs, mode=mode, step_size=2e-6, num_steps=4000, chains=6, burn_in=0.5)
        assert got.llc == pytest.approx(10, abs=4 * got.standard_error + 0.6)


def test_several_centres_at_once(network):
    weights, x = network
    potential = dln_potential(WIDTHS, product([torch.as_tensor(w) for w in weights]), x, mode="collapsed")
    centres = torch.stack([flat(weights), flat(weights) * 1.01])
    got = sample(potential, centres, Sampling(batch_size=None, chains=2, num_steps=50, step_size=1e-7, burn_in=0.0))
    assert got.loss_trace[0, 0] < 1e-6 < got.loss_trace[1, 0]
    assert got.llc_trace[:, 0] == pytest.approx([0.0, 0.0], abs=1e-4)


# -- truths, widths, data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_class", SIZE_CLASSES)
def test_sampled_widths_stay_in_their_class_and_repeat(size_class):
    ranges = SIZE_CLASSES[size_class]
    nets = [sample_widths(size_class, i) for i in range(50)]
    assert nets == [sample_widths(size_class, i) for i in range(50)]
    assert len(set(nets)) > 45
    assert nets != [sample_widths(size_class, i, seed=1) for i in range(50)]
    assert {len(n) - 1 for n in nets} <= set(range(*ranges.layers))
    assert all(ranges.widths[0] <= w < ranges.widths[1] for n in nets for w in n)
    with pytest.raises(ValueError, match="size_class='2K' is not one of 1K"):
        sample_widths("2K", 0)


@pytest.mark.parametrize("method", TRUTHS)
@pytest.mark.parametrize("seed", range(6))
def test_true_rank_is_that_of_the_product(method, seed):
    weights, rank = true_weights((12, 9, 14, 10), method, rng=np.random.default_rng(seed))
    p = np.linalg.multi_dot([w.astype(np.float64) for w in weights])
    values = np.linalg.svd(p, compute_uv=False)
    assert rank == (int((values > 1e-6 * values[0]).sum()) if values[0] > 0 else 0)
    assert rank == product_rank(weights)
    assert [w.dtype for w in weights] == [np.float32] * 3


def test_initialisation_is_truncated_and_not_corrected():
    (w,) = truncated_normal_weights((400, 500), np.random.default_rng(0))
    assert np.abs(w).max() <= 2 / 20
    assert w.std() * 20 == pytest.approx(0.8796, abs=0.005)


def test_unknown_truth_and_distribution():
    with pytest.raises(ValueError, match="method='svd' is not one of"):
        true_weights((3, 3), "svd", rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="distribution='normal' is not one of"):
        DlnInputs(10, 3, distribution="normal")


@pytest.mark.parametrize(("distribution", "variance"), [("uniform", 100 / 3), ("unit_ball", 1 / 7)])
def test_inputs_have_their_second_moment_and_random_access(distribution, variance):
    inputs = DlnInputs(60_000, 5, seed=2, distribution=distribution)
    x = inputs.all()
    assert torch.equal(inputs.rows(torch.tensor([[5, 59_999], [0, 7]])), x[torch.tensor([[5, 59_999], [0, 7]])])
    np.testing.assert_allclose(inputs.second_moment(7000) / variance, np.eye(5), atol=0.03)
    direct = x.double().T @ x.double() / len(x)
    torch.testing.assert_close(inputs.second_moment(), direct, rtol=1e-5, atol=variance * 1e-5)
    extent = x.abs().amax() / 10 if distribution == "uniform" else x.norm(dim=1).amax()
    assert float(extent) == pytest.approx(1.0, abs=1e-3)
    assert abs(float(x.mean())) < 0.01 * 10
    assert not torch.equal(x[:5], DlnInputs(60_000, 5, seed=3, distribution=distribution).all()[:5])


def test_inputs_made_anew_give_the_chain_of_stored_ones(network):
    weights, _ = network
    inputs = DlnInputs(500, WIDTHS[0])
    target = product([torch.as_tensor(w) for w in weights])
    settings = Sampling(step_size=1e-6, num_steps=40, batch_size=50, chains=2)
    stored, anew = (dln_potential(WIDTHS, target, inputs, stored_bytes=b) for b in (2**31, 0))
    np.testing.assert_allclose(
        sample(stored, flat(weights), settings).loss_trace, sample(anew, flat(weights), settings).loss_trace, rtol=1e-5
    )


def test_training_finds_the_teacher():
    widths = (5, 12, 5)
    weights = truncated_normal_weights(widths, np.random.default_rng(0))
    potential = dln_potential(widths, product([torch.as_tensor(w) for w in weights]), DlnInputs(2000, 5))
    start = flat(truncated_normal_weights(widths, np.random.default_rng(1)))[None]
    training = DlnTraining(potential, start, learning_rate=1e-3, batch_size=100)
    losses = [float(training.step(t)) for t in range(600)]
    assert losses[-1] < 1e-3 * losses[0]
    assert float(potential.loss(training.params)) < 1e-3 * float(potential.loss(start))
