"""Every experiment at smoke scale, in memory: what it reports, and that it repeats itself."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from reprod.config import at_scale, resolve
from reprod.errors import BadInput, Diverged
from reprod.learning_coefficient.config import (
    DlnLlc,
    DlnSaddleDynamics,
    MalaVsSgld,
    RescalingInvariance,
    ResnetLlcCurve,
)
from reprod.learning_coefficient.dln_llc import dln_llc
from reprod.learning_coefficient.dln_saddle_dynamics import _at_own_outputs, dln_saddle_dynamics
from reprod.learning_coefficient.exact import dln_learning_coefficient
from reprod.learning_coefficient.mala_vs_sgld import mala_vs_sgld
from reprod.learning_coefficient.rescaling_invariance import rescaling_invariance
from reprod.learning_coefficient.resnet_llc_curve import _noisy, resnet_llc_curve
from reprod.run import Run

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # doubts about an estimate are kept with the run


def last(run, name):
    return run.metrics[name][-1][1]


def finished(function, config):
    run = Run(config)
    function(config, run)
    return run


def test_dln_llc_reports_estimate_and_exact_value():
    config = at_scale(DlnLlc, "smoke", seeds=(3,))
    run = finished(dln_llc, config)
    layers = run.tables["layers"].frame.drop_duplicates("layer")
    widths = [int(layers.inputs.iloc[0]), *map(int, layers.outputs)]
    exact = dln_learning_coefficient(widths, int(last(run, "network/rank")))
    assert last(run, "llc/exact") == float(exact.value)
    assert last(run, "llc/multiplicity") == exact.multiplicity
    assert run.arrays["loss_trace"].values.shape == (2, 200)
    assert run.arrays["llc_acceptance"].values.shape == (2, 10)
    assert run.arrays["trained_loss_trace"].values.shape == (2, 200)
    assert run.tables["training"].frame.iteration.tolist() == [1, 51]
    assert last(run, "truth/functional_rank") <= 2 * last(run, "llc/exact") + 1e-9 or exact.multiplicity >= 1
    trace = run.arrays["loss_trace"].values[:, 180:].astype(float)
    assert last(run, "llc/estimate") == pytest.approx(1000 / math.log(1000) * trace.mean(), rel=1e-4)
    again = finished(dln_llc, config)
    np.testing.assert_array_equal(again.arrays["loss_trace"].values, run.arrays["loss_trace"].values)
    np.testing.assert_array_equal(again.arrays["trained_loss_trace"].values, run.arrays["trained_loss_trace"].values)


def test_dln_llc_without_training_and_collapsed():
    given = {"widths": (3, 4, 2), "train": False, "seeds": (0, 1)}
    run = finished(dln_llc, at_scale(DlnLlc, "smoke", **given))
    assert len(run.children()) == 2
    assert "trained_loss_trace" not in run.children()[0].arrays
    collapsed = finished(dln_llc, at_scale(DlnLlc, "smoke", **given, sampler="collapsed"))
    a, b = (r.children()[0].arrays["loss_trace"].values for r in (run, collapsed))
    assert a[0, 0] < 1e-6
    assert not np.allclose(a[:, 1:], b[:, 1:], rtol=0.01)


def test_a_network_whose_chains_diverge_is_reported_and_has_no_estimate():
    config = at_scale(DlnLlc, "smoke", widths=(5, 8, 5), step_size=1e-2, train=False)
    with pytest.warns(UserWarning, match="2 of 2 chains diverged"):
        run = finished(dln_llc, config)
    assert last(run, "llc/diverged_chains") == 2
    assert "llc/estimate" not in run.metrics
    assert "2 of 2 chains diverged" in run.notes["llc.warnings"]
    short = finished(dln_llc, at_scale(DlnLlc, "smoke", widths=(5, 8, 5), train=False))
    assert "raise sgld_steps (now 200)" in short.notes["llc.warnings"]


def test_a_training_that_diverges_fails_and_says_what_to_lower():
    with pytest.raises(Diverged, match="within 100 iterations; lower learning_rate \\(now 1e\\+06\\)"):
        finished(dln_llc, at_scale(DlnLlc, "smoke", widths=(5, 8, 5), learning_rate=1e6))
    with pytest.raises(Diverged, match=r"before iteration .*; lower learning_rate"):
        finished(dln_saddle_dynamics, at_scale(DlnSaddleDynamics, "smoke", learning_rate=0.3))


def test_an_experiment_without_any_estimate_fails():
    with pytest.raises(Diverged, match="every chain of SGLD diverged; lower step_size"):
        finished(dln_saddle_dynamics, at_scale(DlnSaddleDynamics, "smoke", step_size=0.1))
    with pytest.raises(Diverged, match="MALA accepted no proposal"):
        finished(mala_vs_sgld, at_scale(MalaVsSgld, "smoke", sampler="mala", step_size=1e3, gamma=0.0))
    with pytest.raises(Diverged, match="6 of 6 chains diverged"):
        finished(rescaling_invariance, at_scale(RescalingInvariance, "smoke", step_size=1.0))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_optimiser_is_the_one_asked_for(optimizer):
    given = {"widths": (5, 8, 5), "optimizer": optimizer, "learning_rate": 1e-3, "iterations": 300}
    curve = finished(dln_llc, at_scale(DlnLlc, "smoke", **given)).tables["training"].frame
    assert curve.train_loss.iloc[-1] < curve.train_loss.iloc[0]
    config = at_scale(DlnSaddleDynamics, "smoke", optimizer=optimizer)
    assert np.isfinite(finished(dln_saddle_dynamics, config).tables["curve"].frame.llc).all()
    other = {"sgd": "adam", "adam": "sgd"}[optimizer]
    assert config.digest() != at_scale(DlnSaddleDynamics, "smoke", optimizer=other).digest()
    same = at_scale(DlnSaddleDynamics, "smoke", optimizer=optimizer, momentum=0.5).digest() == config.digest()
    assert same == (optimizer == "adam")


def test_saddle_dynamics_records_a_row_per_period():
    config = at_scale(DlnSaddleDynamics, "smoke")
    run = finished(dln_saddle_dynamics, config)
    curve = run.tables["curve"].frame
    assert curve.iteration.tolist() == [1, 21, 41]
    assert run.arrays["loss_trace"].values.shape == (3, 12)  # 10 steps, in epochs of 3
    assert curve.exact.tolist() == [12.5] * 3
    assert curve.train_loss[0] == pytest.approx(1100, rel=0.2)
    assert np.isfinite(curve.llc).all()


def test_published_saddle_runs_take_156_sgld_steps():
    config = at_scale(DlnSaddleDynamics, "paper", iterations=50, eval_every=50)
    run = finished(dln_saddle_dynamics, config)
    assert run.arrays["loss_trace"].values.shape == (1, 156)


def test_estimates_in_one_batch_are_those_taken_alone():
    """Several checkpoints of a training are sampled together, each against its own outputs."""
    config = at_scale(DlnSaddleDynamics, "smoke")
    x = torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
    from reprod.learning_coefficient.dln import dln_potential

    potential = dln_potential((5, 10, 10, 10, 10, 5), torch.zeros(5, 5), x)
    centres = 0.5 * torch.randn(2, potential.dimension, generator=torch.Generator().manual_seed(1))
    together, traces = _at_own_outputs(config, potential, centres, seed=4)
    alone, trace = _at_own_outputs(config, potential, centres[:1], seed=4)
    np.testing.assert_allclose(traces[0], trace[0], rtol=1e-2, atol=1e-9)
    assert together[0] == pytest.approx(alone[0], rel=1e-2)


def test_rescaling_gives_a_table_of_factors_and_runs():
    config = at_scale(RescalingInvariance, "smoke")
    run = finished(rescaling_invariance, config)
    table = run.tables["estimates"].frame
    assert table.exponent.tolist() == [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0]
    assert table.chain.tolist() == [0, 1] * 3
    assert last(run, "same_noise/relative_difference") < 1e-3
    assert (table.llc > 0).all()


@pytest.mark.parametrize("sampler", ["sgld", "mala"])
def test_timed_chains(sampler):
    run = finished(mala_vs_sgld, at_scale(MalaVsSgld, "smoke", sampler=sampler, seeds=(0, 1)))
    for child in run.children():
        assert child.arrays["loss_trace"].values.shape == (1, 40)
        assert last(child, "llc/seconds") > 0
        assert 0.5 < last(child, "llc/acceptance") <= 1
    a, b = (child.arrays["loss_trace"].values for child in run.children())
    assert not np.array_equal(a, b)


def test_label_noise_leaves_the_clean_labels_alone():
    labels = torch.arange(1000) % 10
    noisy = _noisy(labels, 0.5, seed=0)
    assert 0.35 < float((noisy != labels).float().mean()) < 0.5
    assert torch.equal(labels, torch.arange(1000) % 10)
    assert torch.equal(_noisy(labels, 0.0, seed=0), labels)


@pytest.mark.parametrize(
    ("cls", "given", "match"),
    [
        (DlnLlc, {"batch_size": "200000"}, "sgld_batch_size=200000: larger than the data set, 100000 rows"),
        (DlnLlc, {"widths": "5"}, "widths=5: name an input width"),
        (DlnLlc, {"size_class": "2K"}, "size_class=2K"),
        (DlnLlc, {"gamma": "-1"}, "gamma=-1: must be at least 0"),
        (DlnLlc, {"gamma": "1e8"}, "with step_size=5e-07 the chain is unstable"),
        (DlnLlc, {"step_size": "0"}, "step_size=0: must be greater than 0"),
        (DlnSaddleDynamics, {"num_data": "100"}, "sgld_batch_size=128: larger than the data set"),
        (DlnSaddleDynamics, {"eval_every": "30000"}, "no estimate in 20000 training steps"),
        (ResnetLlcCurve, {"optimizer": "adam", "momentum": "0.9"}, "adam takes none"),
        (ResnetLlcCurve, {"n_train": "4097"}, "batch_size=512: 4097 images leave a batch of one"),
        (DlnLlc, {"nbeta": "1e300"}, "nbeta=1e\\+300: must be at most"),
        (ResnetLlcCurve, {"n_train": "1000"}, "sgld_batch_size=2048: larger"),
        (DlnLlc, {"learning_rate": "inf"}, "learning_rate=inf: must be a finite number"),
        (DlnLlc, {"nbeta": "inf"}, r"nbeta=inf: must be at most 1e\+30"),
        (DlnLlc, {"step_size": "inf", "gamma": "0"}, "step_size=inf: must be a finite number"),
        (DlnLlc, {"num_data": "1e12"}, "n_train=1000000000000: must be at most"),
        (RescalingInvariance, {"exponents": "400"}, "exponents=400: must be at most 18"),
        (RescalingInvariance, {"exponents": "1,0,1"}, "exponents=1,0,1: give each once"),
        (RescalingInvariance, {"exponents": "none"}, "exponents=none: give each once, and at least one"),
        (RescalingInvariance, {"duplicated": "1,25"}, "duplicated=25: there are 20 hidden units"),
        (MalaVsSgld, {"n_train": "20"}, "sgld_batch_size=32: larger than the data set, 20 rows"),
    ],
)
def test_bad_input_is_named(cls, given, match):
    with pytest.raises(BadInput, match=match):
        resolve(cls, given)


@pytest.mark.parametrize(
    ("cls", "old", "new"),
    [
        (DlnLlc, {"batch_size": "64", "training_batch_size": "32"}, {"sgld_batch_size": 64, "training_batch_size": 32}),
        (DlnLlc, {"num_data": "2000", "num_steps": "7", "training_steps": "9"},
         {"n_train": 2000, "sgld_steps": 7, "iterations": 9}),
        (DlnSaddleDynamics, {"logging_period": "10", "epsilon": "1e-7", "lr": "0.001"},
         {"eval_every": 10, "step_size": 1e-7, "learning_rate": 0.001}),
        (ResnetLlcCurve, {"batch_size": "64", "layer_width_factor": "4", "num_test": "8"},
         {"batch_size": 64, "sgld_batch_size": 2048, "width": 4, "n_test": 8}),
        (RescalingInvariance, {"hidden_width": "12", "runs": "3"}, {"width": 12, "chains": 3}),
    ],
)  # fmt: skip
def test_names_that_recorded_runs_and_the_original_scripts_use_keep_their_meaning(cls, old, new):
    config = resolve(cls, old)
    assert {name: getattr(config, name) for name in new} == new


def test_parameters_without_effect_do_not_change_the_identity():
    base = at_scale(DlnLlc, "paper", train=False)
    assert base.digest() == at_scale(DlnLlc, "paper", train=False, learning_rate=0.5).digest()
    assert base.digest() != at_scale(DlnLlc, "paper", train=True).digest()
    collapsed = at_scale(DlnLlc, "paper", sampler="collapsed")
    assert collapsed.digest() == at_scale(DlnLlc, "paper", sampler="collapsed", sgld_batch_size=64).digest()
    assert collapsed.digest() != at_scale(DlnLlc, "paper").digest()
    given = {"widths": (3, 4, 2), "n_train": 1000, "step_size": 1e-6, "sgld_steps": 10}
    assert at_scale(DlnLlc, "paper", **given).digest() == at_scale(DlnLlc, "paper", **given, size_class="10K").digest()
    saddles = [at_scale(DlnSaddleDynamics, "paper", sgld_steps=s, whole_epochs=w).digest()
               for s in (100, 156) for w in (True, False)]  # fmt: skip
    assert saddles[0] != saddles[1]
    assert saddles[2] == saddles[3]


class Interruptible(Run):
    """Keeps checkpoints in memory and stops at the given one."""

    kept: tuple[int, dict] | None = None
    stop_at: int | None = None

    def save(self, iteration, state):
        type(self).kept = (iteration, state)
        if iteration == self.stop_at:
            raise KeyboardInterrupt

    def restore(self):
        return type(self).kept


@pytest.mark.parametrize(
    ("function", "config", "stop_at"),
    [
        (dln_llc, at_scale(DlnLlc, "smoke", checkpoint_every=30), 60),
        (dln_llc, at_scale(DlnLlc, "smoke", checkpoint_every=30), 210),
        (dln_saddle_dynamics, at_scale(DlnSaddleDynamics, "smoke", checkpoint_every=25), 25),
        (rescaling_invariance, at_scale(RescalingInvariance, "smoke", checkpoint_every=20), 40),
        (mala_vs_sgld, at_scale(MalaVsSgld, "smoke", sampler="mala", checkpoint_every=17), 17),
        (mala_vs_sgld, at_scale(MalaVsSgld, "smoke", checkpoint_every=17), 34),
        (resnet_llc_curve, at_scale(ResnetLlcCurve, "smoke", checkpoint_every=2), 2),
    ],
)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(function, config, stop_at):
    try:
        config.prepare()
    except BadInput as error:
        pytest.skip(str(error))
    whole = finished(function, config)
    kind = type("Once", (Interruptible,), {"stop_at": stop_at})
    with pytest.raises(KeyboardInterrupt):
        function(config, kind(config))
    kind.stop_at = None
    resumed = kind(config)
    function(config, resumed)
    assert resumed.arrays.keys() == whole.arrays.keys()
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name].values, array.values, err_msg=name)
    assert resumed.tables.keys() == whole.tables.keys()
    for name, table in whole.tables.items():
        pd.testing.assert_frame_equal(resumed.tables[name].frame, table.frame, check_exact=True)


@pytest.mark.parametrize(
    "given",
    [{"l2": 0.1}, {"optimizer": "adam", "learning_rate": 1e-3}, {"label_noise": 0.5}, {"force_realisable": True}],
)
def test_resnet_variants(given):
    config = at_scale(ResnetLlcCurve, "smoke", iterations=3, **given)
    try:
        config.prepare()
    except BadInput as error:
        pytest.skip(str(error))
    run = finished(resnet_llc_curve, config)
    curve = run.tables["curve"].frame
    assert curve.iteration.tolist() == [1, 3]
    assert np.isfinite(curve[["llc", "test_loss", "test_loss_no_reg", "initial_loss"]]).all(axis=None)
    assert (curve.test_loss > curve.test_loss_no_reg).all() == ("l2" in given)
    assert sum(p.numel() for p in run.models["model"].parameters()) == 3111
