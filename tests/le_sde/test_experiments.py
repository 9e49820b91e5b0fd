"""The LE-ODE and separation experiments, their parameters, and the numbers behind the figures."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from reprod.config import at_scale, resolve
from reprod.errors import BadInput
from reprod.le_sde import drift, estimate, experiment
from reprod.le_sde.config import LEVELS, CifarDynamics, GeomnistDynamics, LeOdeSimulation, LeSdeSeparation
from reprod.run import Run, Upstream


@pytest.fixture(scope="module")
def trained() -> Run:
    """One smoke training that every simulation here imitates."""
    config = at_scale(GeomnistDynamics, "smoke")
    run = Run(config)
    experiment.train(config, run)
    return run


def simulated(trained: Run, **settings) -> Run:
    config = at_scale(LeOdeSimulation, "smoke", **settings)
    arrays = {name: array.values for name, array in trained.arrays.items()}
    run = Run(config, lookup=lambda wanted: Upstream(wanted, arrays.__getitem__, trained.tables.__getitem__, "a test"))
    experiment.simulate(config, run)
    return run


@pytest.mark.parametrize("estimator", ["I", "L", "modes"])
@pytest.mark.parametrize("model", ["I", "L"])
@pytest.mark.parametrize("integrator", ["euler", "exponential"])
def test_simulations_from_gaussian_starts(trained, estimator, model, integrator):
    run = simulated(trained, estimator=estimator, drift=model, integrator=integrator, keep=5)
    solutions, mean = run.arrays["solutions"].values, run.arrays["mean"].values
    assert solutions.shape == (5, 250, 3, 3) and solutions.dtype == np.float32
    assert mean.shape == run.arrays["deviation"].values.shape == (250, 3, 3)
    assert np.isfinite(mean).all() and (run.arrays["deviation"].values > 0).all()
    assert run.arrays["real"].values is trained.arrays["class_means"].values


def test_the_ends_of_all_simulations_are_a_table(trained):
    """Of the stored ones, means over the last thousand iterations (here: all 250); and all eight are there."""
    run = simulated(trained, keep=5)
    frame = run.tables["ends"].frame
    ends = frame[["logit_0", "logit_1", "logit_2"]].to_numpy()
    assert frame["simulation"].tolist() == list(range(8))
    np.testing.assert_allclose(ends[:5], run.arrays["solutions"].values[:, :, 0].mean(axis=1), rtol=1e-4, atol=1e-6)
    real = np.nanmean(run.arrays["real"].values[:, 0], axis=0)
    wanted = ends @ real / np.linalg.norm(ends, axis=1) / np.linalg.norm(real)
    np.testing.assert_allclose(frame["cosine"], wanted, rtol=1e-12)
    (metric,) = run.metrics["class0/cosine"]
    mean = run.arrays["mean"].values[:, 0].mean(axis=0)
    assert metric == (250, pytest.approx(mean @ real / np.linalg.norm(mean) / np.linalg.norm(real)))


def test_all_simulations_average_to_the_mean(trained):
    run = simulated(trained)
    mean = run.arrays["mean"].values
    np.testing.assert_allclose(run.arrays["solutions"].values.mean(axis=0), mean, atol=1e-4 * np.abs(mean).max())


def test_a_measured_start_keeps_the_measured_growth(trained):
    run = simulated(trained, start="measured", integrator="exponential", drift="I")
    real = estimate.filled(run.arrays["real"].values)
    np.testing.assert_allclose(run.arrays["mean"].values[0], real[0])
    assert run.arrays["solutions"].values.shape == (1, 250, 3, 3)
    assert not run.arrays["deviation"].values.any()
    A, B, alpha, beta = (run.arrays[name].values for name in ("A", "B", "alpha", "beta"))
    growth = drift.gaps(run.arrays["mean"].values[-1])[1] / drift.gaps(real[0])[1]
    np.testing.assert_allclose(growth, np.exp((alpha - beta)[1:].sum() / 3), rtol=1e-9)
    assert A.shape == B.shape == (250,)


def test_a_simulation_in_memory_trains_what_it_imitates(trained):
    config = at_scale(LeOdeSimulation, "smoke")
    run = Run(config)
    experiment.simulate(config, run)
    assert "computed in this run" in run.notes["upstream"]
    np.testing.assert_array_equal(run.arrays["real"].values, trained.arrays["class_means"].values)


def test_a_simulation_reads_the_training_of_the_store(store_uri, trained):
    from reprod import store
    from reprod.jobs import launch

    assert launch.execute(at_scale(GeomnistDynamics, "smoke")) == 0
    assert launch.execute(at_scale(LeOdeSimulation, "smoke")) == 0
    (training,) = store.Store().search("geomnist_dynamics")
    (found,) = store.Store().search("le_ode_simulation")
    assert found.tags["reprod.upstream"] == f"run {training.id}"
    np.testing.assert_array_equal(found.array("real"), training.array("class_means"))
    np.testing.assert_array_equal(training.array("class_means"), trained.arrays["class_means"].values)
    assert isinstance(training.array("logits"), np.memmap) and training.array("logits").shape == (6, 250, 3)
    networks = training.model()
    assert networks.weights.shape == (6, 61_111)
    with pytest.raises(BadInput, match="no finished geomnist_dynamics or cifar_dynamics"):
        launch.execute(resolve(LeOdeSimulation, {"scale": "smoke", "training_run": found.id}))
    named = resolve(LeOdeSimulation, {"scale": "smoke", "training_run": training.id, "seeds": "4"})
    assert launch.execute(named) == 0
    made = store.Store().find(named)
    assert made.tags["reprod.upstream"] == f"run {training.id}"
    from reprod.jobs import housekeeping

    deviations, _ = housekeeping.verify(store.Store(), made.id)  # looks the named run up again
    assert deviations and all(deviation.equal for deviation in deviations)


def test_separation_at_smoke_scale_shows_the_transition():
    config = at_scale(LeSdeSeparation, "smoke")
    run = Run(config)
    experiment.separation(config, run)
    ratio = np.median(run.arrays["ratio"].values, axis=1)
    assert ratio.shape[0] == 3 and ratio[0, -1] > 100 * ratio[2, -1]
    systems = run.tables["systems"].frame
    assert systems.groupby("exponent")["separable"].mean()[[0.6, 1.4]].tolist() == [1.0, 0.0]
    np.testing.assert_array_equal(systems["ratio"], run.arrays["ratio"].values[:, :, -1].ravel())
    assert [step for step, _ in run.metrics["ratio/r_0.6"]] == run.arrays["times"].values.tolist()
    assert run.metrics["separable/r_1.4"] == [(500, 0.0)]


# -- parameters -------------------------------------------------------------------------------------------------------


def test_configuration_needs_no_torch():
    code = "import sys, reprod.le_sde.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (GeomnistDynamics, {"p": "1.2"}, "corruption=1.2: must be at most 1"),
        (GeomnistDynamics, {"batch_size": "4"}, "no parameter 'batch_size'"),
        (CifarDynamics, {"classes": "1"}, "classes=1: must be at least 2"),
        (LeOdeSimulation, {"window": "20"}, "window is odd"),
        (LeOdeSimulation, {"estimator": "M"}, "is not one of I, L, modes"),
        (LeOdeSimulation, {"window": "10001"}, "window=10001: the training has 10000 iterations only"),
        (LeOdeSimulation, {"baseline": "30001", "dataset": "cifar10"}, "the training has 30000 iterations only"),
        (LeOdeSimulation, {"noise_scale": "inf"}, "must be at most"),
        (LeSdeSeparation, {"exponents": "0.5,0"}, "must be greater than 0"),
        (LeSdeSeparation, {"exponents": "none"}, "at least one"),
        (LeSdeSeparation, {"exponents": "0.5,0.6,0.5"}, "give each exponent once"),
        (LeSdeSeparation, {"alpha": "inf"}, "beyond double precision"),
        (LeSdeSeparation, {"alpha": "-inf"}, "beyond double precision"),
        (LeSdeSeparation, {"beta": "200", "exponents": "1"}, "beyond double precision"),
        (LeSdeSeparation, {"sigma": "1e-320"}, "sigma=1e-320: must be at least"),
        (LeSdeSeparation, {"gap": "inf"}, "must be at most"),
        (GeomnistDynamics, {"learning_rate": "1e-320"}, "float32 cannot hold that"),
        (GeomnistDynamics, {"learning_rate": "inf", "dtype": "float64"}, "float64 cannot hold that"),
    ],
)
def test_mistakes_are_named(cls, values, words):
    with pytest.raises(BadInput, match=words):
        resolve(cls, values)


def test_identity_of_simulations():
    def digest(**settings) -> str:
        return at_scale(LeOdeSimulation, "paper", **settings).digest()

    assert digest() != digest(drift="I") != digest(training_scale="small")
    assert digest(start="measured") == digest(start="measured", simulations=20, noise_scale=2.0)
    named = {"training_run": "a", "start": "measured"}
    assert digest(**named) == digest(**named, data_seed=3, corruption=0.1, dataset="cifar10", training_scale="small")
    assert digest(data_seed=1) != digest()
    assert digest(dataset="cifar10") == digest(dataset="cifar10", corruption=0.5)
    assert at_scale(LeOdeSimulation, "paper", data_seed=2, seeds=(1,)).training() == GeomnistDynamics(
        data_seed=2, seeds=(1,)
    )
    assert at_scale(LeOdeSimulation, "small").training() == at_scale(GeomnistDynamics, "small")


def test_old_spellings_are_understood():
    old = {"scale": "smoke", "trials": "4", "lr": "0.1", "p": "0.2"}
    assert resolve(GeomnistDynamics, old) == at_scale(
        GeomnistDynamics, "smoke", networks=4, learning_rate=0.1, corruption=0.2
    )
    assert resolve(CifarDynamics, {"trials": "4", "lr": "0.1"}) == CifarDynamics(networks=4, learning_rate=0.1)
    assert resolve(LeOdeSimulation, {"p": "0.2"}) == LeOdeSimulation(corruption=0.2)


def test_validation_images_beyond_the_set_are_no_other_run():
    whole, beyond = GeomnistDynamics(n_val=10), GeomnistDynamics(n_val=10, val_images=30)
    assert whole.digest() == beyond.digest() != GeomnistDynamics(n_val=10, val_images=29).digest()
    assert beyond.unused() == {"val_images"}


def test_levels_are_the_published_ones():
    assert len(LEVELS) == 10 and LEVELS[0] == 0 and LEVELS[7] == 2 / 3
    assert len({at_scale(GeomnistDynamics, "paper", corruption=p).digest() for p in LEVELS}) == 10


@pytest.mark.parametrize("cls", [GeomnistDynamics, CifarDynamics, LeOdeSimulation, LeSdeSeparation])
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "tpu"])
def test_no_other_device_than_the_processor(cls, device):
    """`device=cuda` computed on the processor once, and was tagged with the GPU's name."""
    config = at_scale(cls, "smoke", device=device)
    with pytest.raises(BadInput, match=f"device={device}: {cls.experiment} computes on the processor"):
        config.prepare()
    assert config.digest() == at_scale(cls, "smoke").digest()
    at_scale(cls, "smoke", device="cpu").prepare()


@pytest.mark.parametrize("settings", [{"networks": 10**8}, {"iterations": 10**12}])
def test_more_than_fits_into_memory_is_refused(settings):
    with pytest.raises(BadInput, match=r"take [\d.e+]+ GB, this machine has"):
        at_scale(GeomnistDynamics, "smoke", **settings).prepare()


@pytest.mark.parametrize("settings", [{"networks": 1}, {"networks": 2}, {"iterations": 1}, {"iterations": 2}])
def test_estimates_that_cannot_be_made_are_said_and_not_logged(settings, capsys):
    """They were NaN, in silence."""
    run = Run(at_scale(GeomnistDynamics, "smoke", **settings))
    experiment.train(run.config, run)
    assert all(math.isfinite(value) for points in run.metrics.values() for _, value in points)
    assert run.notes["estimates"].startswith("no estimate/") and "estimate/tail_alpha" not in run.metrics
    assert f"reprod: {run.notes['estimates']}" in capsys.readouterr().err
    assert "val/loss" in run.metrics and "train/loss" in run.metrics


def test_a_usual_training_has_all_estimates(trained):
    assert "estimates" not in trained.notes
    assert {"estimate/A", "estimate/B", "estimate/tail_alpha", "estimate/tail_beta"} <= trained.metrics.keys()


@pytest.mark.parametrize(
    ("settings", "means", "words"),
    [
        ({"estimator": "L"}, np.ones((50, 4, 4)), "3 classes, the training has 4: use estimator=modes"),
        ({"window": 201}, np.ones((50, 3, 3)), "window=201: the training has 50 iterations only"),
        ({}, np.full((50, 3, 3), np.nan), "too few networks"),
    ],
)
def test_a_training_that_cannot_be_imitated(settings, means, words):
    config = at_scale(LeOdeSimulation, "smoke", training_run="other", **settings)
    run = Run(config, lookup=lambda wanted: Upstream(wanted, {"class_means": means}.__getitem__, dict, "a test"))
    with pytest.raises(BadInput, match=words):
        experiment.simulate(config, run)
