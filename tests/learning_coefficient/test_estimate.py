"""`estimate_llc` as people use it on models of their own."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from reprod.learning_coefficient import Batches, Sampling, dln_learning_coefficient, estimate_llc
from reprod.learning_coefficient.diagnostics import drift, split_r_hat, standard_error
from reprod.learning_coefficient.estimate import summarise

QUICK = {"step_size": 1e-4, "num_steps": 30, "chains": 2, "batch_size": 16, "burn_in": 0.5}
# Short chains, as most tests run them, are rightly reported as not equilibrated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:not equilibrated", "ignore:the estimate", "ignore:only", "ignore:the halves"
)


def regression(rows=64, width=3, outputs=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(width, 4), nn.Tanh(), nn.Linear(4, outputs))
    x = torch.randn(rows, width, generator=generator)
    return model, (x, model(x).detach())


def test_regular_model_is_half_its_dimension():
    """Linear regression at its minimum is regular: D/2, with the step-size bias left small."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 6, generator=generator)
    y = x @ torch.randn(6, 1, generator=generator)
    model = nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    for settings in (
        {"sampler": "mala", "batch_size": None, "step_size": 5e-3},
        {"sampler": "sgld", "batch_size": 100, "step_size": 2e-4},
    ):
        got = estimate_llc(model, mse_loss, (x, y), num_steps=1500, chains=16, gamma=1.0, burn_in=0.3, **settings)
        assert got.llc == pytest.approx(3.0, abs=4 * got.standard_error + 0.1)
        assert got.standard_error < 0.1
        assert got.r_hat < 1.05
        assert got.nbeta == pytest.approx(1000 / math.log(1000))
        assert not got.warnings


def test_singular_model_is_below_half_its_dimension():
    """A 4-3-4 linear network at rank 1 as an nn.Module: near Aoyagi's value, far from D/2."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2000, 4, generator=generator)
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 4, bias=False))
    with torch.no_grad():
        for layer in model:
            layer.weight.zero_()
            layer.weight[0, 0] = 1.0
    got = estimate_llc(
        model, mse_loss, (x, model(x).detach()),
        sampler="mala", batch_size=None, step_size=2e-3, num_steps=4000, chains=8, burn_in=0.5,
    )  # fmt: skip
    exact = dln_learning_coefficient((4, 3, 4), 1).value
    assert got.llc == pytest.approx(float(exact), rel=0.15)
    assert got.llc < 0.75 * got.dimension / 2


def test_deterministic_per_seed_and_per_chain():
    model, data = regression()
    first, again = (estimate_llc(model, mse_loss, data, **QUICK, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.loss_trace, again.loss_trace)
    assert not np.array_equal(first.loss_trace, estimate_llc(model, mse_loss, data, **QUICK, seed=6).loss_trace)
    more = estimate_llc(model, mse_loss, data, **{**QUICK, "chains": 5}, seed=5)
    np.testing.assert_allclose(more.loss_trace[:2], first.loss_trace, rtol=1e-4, atol=1e-8)
    looped = estimate_llc(model, mse_loss, data, **QUICK, seed=5, batch_chains=False)
    np.testing.assert_allclose(looped.loss_trace, first.loss_trace, rtol=1e-4, atol=1e-8)


def test_the_callers_model_and_random_state_are_untouched():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2)).train()
    x = torch.randn(64, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random_state = torch.get_rng_state()
    got = estimate_llc(model, mse_loss, (x, torch.zeros(64, 2)), **QUICK)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    # BatchNorm is frozen: the loss at w* is that of the model in eval mode.
    assert got.initial_loss == pytest.approx(float(model.eval()(x).detach().square().mean()), rel=1e-5)
    assert got.loss_trace[0, 0] > 0


def test_frozen_parameters_are_not_sampled():
    model, data = regression()
    model[0].requires_grad_(False)
    assert estimate_llc(model, mse_loss, data, **QUICK).dimension == 4 * 2 + 2


def test_constant_factors_of_the_loss_only_rescale_the_temperature():
    model, data = regression()
    a = estimate_llc(model, mse_loss, data, **QUICK, nbeta=100.0)
    b = estimate_llc(model, lambda out, y: 4 * mse_loss(out, y), data, **QUICK, nbeta=25.0)
    np.testing.assert_allclose(a.llc_trace, b.llc_trace, rtol=1e-3, atol=1e-5)


def relu_network(scale):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 5))
    with torch.no_grad():
        model[0].weight *= scale
        model[0].bias *= scale
        model[2].weight /= scale
    return model


def test_preconditioned_sgld_is_equivariant_under_relu_rescaling():
    x = 20 * torch.rand(500, 5, generator=torch.Generator().manual_seed(0)) - 10
    found = []
    for c in (1.0, 100.0):
        model = relu_network(c)
        factors = {"0.weight": c**2, "0.bias": c**2, "2.weight": c**-2}
        y = relu_network(1.0)(x).detach()
        found.append(
            estimate_llc(
                model, mse_loss, (x, y), preconditioner=factors,
                gamma=0.0, step_size=1e-5, num_steps=300, chains=2, batch_size=50, burn_in=0.0, order="sequential",
            )
        )  # fmt: skip
    np.testing.assert_allclose(found[0].loss_trace[:, :100], found[1].loss_trace[:, :100], rtol=2e-2, atol=1e-6)
    assert found[0].llc == pytest.approx(found[1].llc, rel=1e-3)


def test_legacy_variants():
    """After-step traces are before-step traces one step later; whole epochs round the number of steps up."""
    model, data = regression()
    full = {"step_size": 1e-4, "num_steps": 20, "chains": 2, "batch_size": None}
    before = estimate_llc(model, mse_loss, data, **full, trace="before")
    after = estimate_llc(model, mse_loss, data, **full, trace="after")
    np.testing.assert_allclose(after.loss_trace[:, :-1], before.loss_trace[:, 1:], rtol=1e-6)
    assert before.loss_trace[0, 0] == pytest.approx(before.initial_loss, abs=1e-9)
    epochs = estimate_llc(model, mse_loss, data, **{**QUICK, "batch_size": 24, "num_steps": 3}, whole_epochs=True)
    assert epochs.loss_trace.shape == (2, 4)
    thinned = estimate_llc(model, mse_loss, data, **QUICK, trace_loss="full", trace_every=7)
    assert thinned.loss_trace.shape == (2, 4)
    mala = {"sampler": "mala", **full}
    a, b = (estimate_llc(model, mse_loss, data, **mala, trace=t).loss_trace for t in ("before", "after"))
    np.testing.assert_array_equal(b[:, :-1], a[:, 1:])


def test_burn_in_can_be_changed_afterwards():
    model, data = regression()
    got = estimate_llc(model, mse_loss, data, **QUICK)
    assert got.with_burn_in(0.5) == pytest.approx(got.llc)
    assert got.with_burn_in(0.0) == pytest.approx(got.llc_trace.mean())


def test_data_sets_are_read_into_memory():
    model, data = regression()
    tensors = estimate_llc(model, mse_loss, data, **QUICK)
    dataset = torch.utils.data.TensorDataset(*data)
    np.testing.assert_array_equal(estimate_llc(model, mse_loss, dataset, **QUICK).loss_trace, tensors.loss_trace)
    subset = torch.utils.data.Subset(dataset, range(64))
    np.testing.assert_array_equal(estimate_llc(model, mse_loss, subset, **QUICK).loss_trace, tensors.loss_trace)


def test_a_classifier():
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    x = torch.randn(200, 3)
    got = estimate_llc(model, cross_entropy, (x, model(x).argmax(1)), **QUICK)
    assert np.isfinite(got.llc)


class Nothing(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"gamma": -1.0}, "gamma must be zero or a positive number, got -1"),
        ({"gamma": 1e5, "step_size": 1e-4}, r"step_size \* gamma = 10 is unstable"),
        ({"step_size": 0.0}, "step_size must be a positive number, got 0"),
        ({"step_size": math.nan}, "step_size must be a positive number"),
        ({"nbeta": -2.0}, r"nbeta must be a positive number \(1e30 at most\) or None"),
        ({"nbeta": 1e300}, "nbeta must be a positive number"),
        ({"batch_size": 65}, "batch_size=65 is larger than the data set, 64 rows"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1, got 0"),
        ({"batch_size": 3.5}, "batch_size must be a whole number, at least 1, got 3.5"),
        ({"acceptance_every": 1.5}, "acceptance_every must be a whole number, at least 0, got 1.5"),
        ({"seed": -1}, "seed must be a whole number, at least 0, got -1"),
        ({"num_steps": 0}, "num_steps must be a whole number, at least 1"),
        ({"num_steps": 1e3}, "num_steps must be a whole number"),
        ({"chains": 0}, "chains must be a whole number, at least 1"),
        ({"burn_in": 1.0}, "burn_in is a proportion"),
        ({"sampler": "hmc"}, "sampler='hmc' is not one of sgld, mala"),
        ({"sampler": "mala"}, "mala needs all 64 examples"),
        ({"trace": "during"}, "is not one of before, after"),
        ({"order": "random"}, "is not one of shuffled, fixed, sequential"),
        ({"trace_every": 31}, "leaves no draw"),
        ({"preconditioner": {"weight": 1.0}}, "preconditioner names 'weight', but the parameters are 0.weight"),
        ({"preconditioner": {"0.weight": torch.ones(5)}}, r"of '0.weight' has shape \(5,\), the parameter \(4, 3\)"),
        ({"preconditioner": {"0.weight": torch.ones(3, 4)}}, r"has shape \(3, 4\), the parameter \(4, 3\)"),
        ({"preconditioner": {"0.weight": math.inf}}, "preconditioner must be positive and finite"),
        ({"preconditioner": {"0.weight": -1.0}}, "preconditioner must be positive"),
        ({"acceptance_every": -1}, "acceptance_every must be a whole number"),
    ],
)
def test_bad_settings(change, match):
    model, data = regression()
    with pytest.raises(ValueError, match=match):
        estimate_llc(model, mse_loss, data, **{**QUICK, **change})


def test_bad_models_losses_and_data():
    model, (x, y) = regression()
    with pytest.raises(ValueError, match="Nothing has no parameter"):
        estimate_llc(Nothing(), mse_loss, (x, y), **QUICK)
    with pytest.raises(ValueError, match=r"positive number of rows, got \[64, 63\]"):
        estimate_llc(model, mse_loss, (x, y[1:]), **QUICK)
    with pytest.raises(ValueError, match="positive number of rows"):
        estimate_llc(model, mse_loss, (x[:0], y[:0]), **QUICK)
    with pytest.raises(ValueError, match="single tensor"):
        estimate_llc(model, mse_loss, x, **QUICK)
    with pytest.raises(ValueError, match=r"a scalar tensor; it returned \(8, 2\)"):
        estimate_llc(model, lambda out, y: (out - y).square(), (x, y), **QUICK)
    with pytest.raises(ValueError, match="not finite"):
        estimate_llc(model, mse_loss, (x, y * math.nan), **QUICK)
    with pytest.raises(TypeError, match="stepsize"):
        estimate_llc(model, mse_loss, (x, y), stepsize=1.0)


@pytest.mark.parametrize("targets", ["data", "own outputs"])
def test_a_summed_loss_is_noticed_also_where_it_is_zero(targets):
    model, (x, y) = regression()
    y = y if targets == "own outputs" else y + 1
    with pytest.raises(ValueError, match=r'not the mean over the batch.*use reduction="mean"'):
        estimate_llc(model, nn.MSELoss(reduction="sum"), (x, y), **QUICK)
    estimate_llc(model, nn.MSELoss(), (x, y), **QUICK)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    model, (x, y) = regression()
    with pytest.raises(ValueError, match=r"chains need float32 or float64.*give model.float\(\)"):
        estimate_llc(model.to(dtype), mse_loss, (x.to(dtype), y.to(dtype)), **QUICK)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.lstm(x[:, None].expand(-1, 5, -1))[0][:, -1])


@pytest.mark.parametrize("trace", ["before", "after"])
def test_a_recurrent_network_gives_the_same_with_and_without_batched_chains(trace):
    _, data = regression()
    torch.manual_seed(0)
    model = Recurrent()
    batched, looped = (
        estimate_llc(model, mse_loss, data, **QUICK, trace=trace, batch_chains=b).loss_trace for b in (True, False)
    )
    np.testing.assert_allclose(batched, looped, rtol=1e-4)


class Dropping(nn.Module):
    def __init__(self, obedient):
        super().__init__()
        self.layer, self.obedient = nn.Linear(3, 2), obedient

    def forward(self, x):
        return self.layer(torch.nn.functional.dropout(x, 0.5, training=self.training if self.obedient else True))


class Branching(nn.Linear):
    """What vmap cannot follow: control flow by the data."""

    def forward(self, x):
        return super().forward(x) if float(self.weight.sum()) < 1e9 else x


def test_models_that_cannot_be_sampled_are_refused_with_a_hint():
    _, (x, y) = regression()
    estimate_llc(Dropping(obedient=True), mse_loss, (x, y), **QUICK)
    with pytest.raises(ValueError, match="draws random numbers in eval mode"):
        estimate_llc(Dropping(obedient=False), mse_loss, (x, y), **QUICK)
    with pytest.raises(ValueError, match=r"cannot evaluate several chains of Branching.*give batch_chains=False"):
        estimate_llc(Branching(3, 2), mse_loss, (x, y), **QUICK)
    estimate_llc(Branching(3, 2), mse_loss, (x, y), **QUICK, batch_chains=False)
    with pytest.raises(ValueError, match="Wrap a model of several inputs in one that takes one tensor"):
        estimate_llc(nn.Bilinear(3, 3, 2), mse_loss, (x, x, y), **QUICK)


class OfDicts(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return {"x": torch.ones(3), "y": torch.ones(2)}


def test_other_kinds_of_data_are_refused_with_a_hint():
    model, (x, y) = regression()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 8)
    for data, match in (
        (loader, "give its dataset, data=loader.dataset"),
        ({"x": x, "y": y}, "data is a dict of 'x', 'y': give "),
        (OfDicts(), "must be pairs .*, the first is a dict"),
        (None, "got None"),
        ([x.tolist(), y.tolist()], "must be tensors with one row per example"),
    ):
        with pytest.raises(ValueError, match=match):
            estimate_llc(model, mse_loss, data, **QUICK)
    arrays = estimate_llc(model, mse_loss, (x.numpy(), y.numpy()), **QUICK)
    np.testing.assert_array_equal(arrays.loss_trace, estimate_llc(model, mse_loss, (x, y), **QUICK).loss_trace)


# -- doubts ------------------------------------------------------------------------------------------------------------


def doubts(trace, **settings):
    trace = np.asarray(trace, dtype=np.float32)
    given = Sampling(**{"num_steps": trace.shape[1], "burn_in": 0.0, **settings})
    nothing = np.empty((len(trace), 0)), np.empty(0)
    found = summarise(
        trace, 0.0, 1.0, given, dimension=100, acceptance=nothing, seconds=0, cpu_seconds=0, params=torch.empty(0)
    )
    return " | ".join(found.warnings)


def test_doubts():
    noise = np.random.default_rng(0).normal(size=(4, 400))
    assert not doubts(10 + noise)
    assert "not at a minimum" in doubts(noise - 5)
    one = np.random.default_rng(1).normal(size=(4, 40)) * 3
    centred = one - one.mean()
    assert "within three standard errors of zero" in doubts(centred - 0.05)
    assert "not at a minimum" not in doubts(centred - 0.05)
    assert "not at a minimum" not in doubts([[-1e-3]])  # one draw has no standard error
    assert "R-hat" in doubts(10 + noise + 3 * np.arange(4)[:, None])
    assert "only 31 draws" in doubts(10 + noise[:, :31])
    assert "only" not in doubts(10 + noise[:, :32])


def test_a_chain_whose_proposals_are_all_rejected_is_doubted():
    model, data = regression()
    with pytest.warns(UserWarning, match="of the proposals are accepted: the chain hardly moves"):
        estimate_llc(
            model, mse_loss, data, sampler="mala", batch_size=None, step_size=10.0, gamma=0.1, num_steps=50,
            acceptance_every=1,
        )  # fmt: skip


# -- batches and diagnostics ------------------------------------------------------------------------------------------


def test_batches_cover_an_epoch_without_repeats():
    batches = Batches(103, 10, seed=0)
    blocks = batches.epoch(0)
    assert blocks.shape == (10, 10)
    assert len(set(blocks.flatten().tolist())) == 100
    assert not torch.equal(blocks, batches.epoch(1))
    turns = batches.turns(4)
    assert all(sorted(column.tolist()) == list(range(10)) for column in turns.unbind(1))
    assert torch.equal(turns[:, :2], batches.turns(2))


def test_unshuffled_batches():
    assert torch.equal(Batches(10, 3, 0, "sequential").epoch(5), torch.arange(9).view(3, 3))
    fixed = Batches(10, 3, 0, "fixed")
    assert torch.equal(fixed.epoch(0), fixed.epoch(7))
    assert fixed.turns(3).unique(dim=1).shape == (3, 1)


def test_diagnostics_on_known_traces():
    rng = np.random.default_rng(0)
    good = rng.normal(size=(4, 1000))
    assert split_r_hat(good) == pytest.approx(1.0, abs=0.01)
    assert split_r_hat(good + 3 * np.arange(4)[:, None]) > 1.5
    assert split_r_hat(good + np.linspace(0, 5, 1000)) > 1.2
    assert standard_error(good) == pytest.approx(1 / math.sqrt(4000), rel=0.8)
    assert standard_error(good[:1]) == pytest.approx(1 / math.sqrt(1000), rel=0.5)
    assert abs(drift(good)[1]) < 3.5
    change, errors = drift(good + np.linspace(0, 4, 1000))
    assert change == pytest.approx(1.0, abs=0.15)
    assert errors > 5
    assert math.isnan(drift(good[:, :10])[0])


def test_sampling_defaults_are_valid_and_frozen():
    with pytest.raises(AttributeError):
        Sampling().chains = 3  # type: ignore[misc]


def test_exact_values_need_no_torch():
    code = "import sys, reprod.learning_coefficient as l; l.dln_learning_coefficient((3, 2), 1); assert 'torch' not in"
    code += " sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
