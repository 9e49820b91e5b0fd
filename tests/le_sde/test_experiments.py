"""The LE-ODE and separation experiments, their parameters, and the numbers behind the figures."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reprod.analysis.le_sde import common, fork, sample_size
from reprod.config import at_scale, resolve
from reprod.errors import BadInput
from reprod.figures.figure import NOT_REPRODUCED, REPRODUCED, Runs
from reprod.figures.figure import figures as find_figures
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
    assert store.Store().find(named).tags["reprod.upstream"] == f"run {training.id}"


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
        (LeSdeSeparation, {"exponents": "0.5,0"}, "must be greater than 0"),
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
    assert digest(dataset="cifar10") == digest(dataset="cifar10", corruption=0.5)
    assert at_scale(LeOdeSimulation, "small").training() == at_scale(GeomnistDynamics, "small")


def test_old_spellings_are_understood():
    old = {"scale": "smoke", "trials": "4", "lr": "0.1", "p": "0.2"}
    assert resolve(GeomnistDynamics, old) == at_scale(
        GeomnistDynamics, "smoke", networks=4, learning_rate=0.1, corruption=0.2
    )
    assert resolve(CifarDynamics, {"trials": "4", "lr": "0.1"}) == CifarDynamics(networks=4, learning_rate=0.1)
    assert resolve(LeOdeSimulation, {"p": "0.2"}) == LeOdeSimulation(corruption=0.2)


def test_levels_are_the_published_ones():
    assert len(LEVELS) == 10 and LEVELS[0] == 0 and LEVELS[7] == 2 / 3
    assert len({at_scale(GeomnistDynamics, "paper", corruption=p).digest() for p in LEVELS}) == 10


# -- numbers of the figures -------------------------------------------------------------------------------------------


class Record(SimpleNamespace):
    def array(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def table(self, name: str) -> pd.DataFrame:
        return self.tables[name]


@pytest.fixture
def grown() -> Record:
    """200 trials on the solution of the I-model with A = 2e-3 t, B = 0, with noise of each trial."""
    rng, steps = np.random.default_rng(0), 2000
    t = np.arange(steps)
    clean = drift.solution_i(rng.standard_normal((3, 3)), 2e-3 * t, 0.0 * t)
    labels = rng.integers(3, size=(200, steps))
    logits = clean[t, labels] + 0.05 * rng.standard_normal((200, steps, 3))
    found, _ = estimate.class_means(logits, labels, 3)
    return Record(arrays={"logits": logits, "labels": labels, "class_means": found}, id="x")


def test_growth_with_its_bootstrap_interval(grown):
    value, (low, high) = common.growth(grown, 500, 1800)
    assert low < value < high and high - low < 0.2
    assert value == pytest.approx(2.6, abs=0.1)


def test_resampled_means_scatter_around_the_means(grown):
    times = np.array([3, 900])
    drawn = common.resampled_means(grown.array("logits"), grown.array("labels"), times)
    np.testing.assert_allclose(drawn.mean(axis=0), grown.array("class_means")[times], atol=5e-3)


def test_crossing_is_interpolated():
    x = np.array([0.0, 0.5, 0.7])
    assert common.crossing_of(x, np.array([0.7, 0.9, 1.1])) == pytest.approx(0.6)
    assert math.isnan(common.crossing_of(x, np.array([0.7, 0.8, 0.9])))


@pytest.mark.parametrize(
    ("value", "spread", "verdict"),
    [(1.1, (math.nan,) * 2, REPRODUCED), (1.3, (math.nan,) * 2, NOT_REPRODUCED), (1.3, (1.15, 1.45), REPRODUCED)],
)
def test_a_number_is_reproduced_within_tolerance_or_interval(value, spread, verdict):
    claim = common.near(Runs([], "small"), "x", "x", 1.0, 0.2, value, source="x", spread=spread)
    assert claim.verdict == verdict


def test_own_logit_of_an_exponential_has_no_excess():
    t = np.arange(3000)
    found = np.exp(1e-3 * t)[:, None, None] * np.eye(3)
    own, increments, excess = sample_size.own_logit(found)
    inner = slice(100, -100)
    np.testing.assert_allclose(own[inner], np.exp(1e-3 * t)[inner], rtol=1e-3)
    np.testing.assert_allclose(increments[inner], 1e-3, rtol=1e-3)
    assert np.abs(excess[inner]).max() < 0.1


def test_frame_cosines_are_those_of_centred_means():
    means = 3.0 + np.tile(drift.directions(3), (40, 1, 1))
    np.testing.assert_allclose(fork.frame_cosines(means, 40), -0.5)


def synthetic(config) -> Record:
    """A record as a training leaves it, made from the I-model with saturating A."""
    rng, steps = np.random.default_rng(1), config.iterations
    t = np.arange(steps)
    A = (1 - getattr(config, "corruption", 0.0)) * 15 * (1 - np.exp(-5 * t / steps))
    clean = drift.solution_i(0.02 * (drift.directions(3) + 0.1), A, 0 * A)
    labels = rng.integers(3, size=(12, steps))
    logits = clean[t, labels] + 0.01 * rng.standard_normal((12, steps, 3))
    evaluated = np.linspace(0, steps, 21).astype(int)
    accuracy = np.linspace(1 / 3, 1, 21)[:, None] + 0.01 * rng.standard_normal((21, 12))
    arrays = {
        "logits": logits, "labels": labels, "class_means": estimate.class_means(logits, labels, 3)[0],
        "evaluated": evaluated, "val_accuracy": accuracy, "val_loss": 1.1 * (1.2 - accuracy),
        "real": clean, "mean": 0.5 * clean, "deviation": 0.1 * np.abs(clean), "times": np.geomspace(1, 1e4, 30),
        "exponents": np.array([0.6, 0.8, 0.95, 1.05, 1.2]),
        "ratio": np.exp(np.linspace(0, 1, 30) * np.array([3.0, 2, 1, -1, -2])[:, None, None] + np.zeros((5, 2, 30))),
        "cosine": np.full((5, 2, 30), -0.5),
    }  # fmt: skip
    separable = pd.DataFrame({"exponent": arrays["exponents"], "separable": [True, True, True, False, False]})
    return Record(arrays=arrays, tables={"systems": separable}, id=config.digest())


@pytest.mark.parametrize("id", ["fig1", "fig3", "fig4", "fig5", "sample_size", "separation"])
def test_claims_and_figures_above_smoke_scale(id):
    import matplotlib.pyplot as plt

    (chosen,) = find_figures("le_sde", id=id)
    configs = chosen.runs("small")
    # what a simulation or a separation run lacks for `synthetic`: only how long it is
    records = {
        c.digest(): synthetic(c if hasattr(c, "networks") else at_scale(GeomnistDynamics, "small")) for c in configs
    }
    runs = Runs([(c, [records[c.digest()]]) for c in configs], "small")
    rows = chosen.claims(runs)
    assert len({row.name for row in rows}) == len(rows) >= 3
    assert all(row.verdict in (REPRODUCED, NOT_REPRODUCED) and row.ours and row.run_ids for row in rows)
    drawing = chosen.what.draw(runs)
    assert len(drawing.table) > 10 and drawing.figure.axes
    plt.close(drawing.figure)
