"""Experiments on a run in memory: laws at small depth, resuming bit for bit, several seeds, wrong parameters."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal

from reprod import papers
from reprod.config import at_scale, resolve
from reprod.errors import BadInput, Diverged
from reprod.papers import function
from reprod.residual_limit import config as configs
from reprod.residual_limit import gaussian, theory
from reprod.run import Run

SMALL = {
    "resnet_lipschitz": {"iterations": 12, "depths": (2, 16, 32, 64), "n_train": 30, "dim": 6, "width": 8},
    "resnet_convergence": {
        "iterations": 12, "depths": (2, 4, 8, 16), "reference": 128, "n_train": 30, "dim": 6, "width": 8,
    },
    "resnet_long_time": {"iterations": 60, "record_every": 10, "n_train": 20, "dim": 6, "width": 8, "depth": 12},
    "cifar_resnet": {"depth": 3, "channels": 4, "n_train": 96, "batch_size": 32, "epochs": 2, "n_test": 30},
}  # fmt: skip
ARRAYS = {
    "resnet_lipschitz": {"lip_paper": 2, "lip_code": 3, "incV_max": 2, "incW_max": 2, "T": 1, "loss": 2},
    "resnet_convergence": {"dV": 2, "dW": 2, "sup": 2, "loss": 2},
    "resnet_long_time": {"V_rec": 4, "W_rec": 4, "loss": 1, "inc_max": 2},
    "cifar_resnet": {"conv1": 2, "conv2": 2, "conv1_start": 2},
}
TABLES = {
    "resnet_lipschitz": {"slopes": ["norm", "T", "exponent", "low", "high"]},
    "resnet_convergence": {"slopes": ["iteration", "exponent", "low", "high", "quantity", "regressor"]},
    "resnet_long_time": {"crossings": ["level", "iteration"]},
    "cifar_resnet": {
        "epochs": ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"],
        "smoothness": ["epoch", "convolution", "increment", "ratio", "autocorrelation", "moved"],
    },
}


def make(name, **settings):
    cls = papers.config_class(name)
    return at_scale(cls, "smoke", **{**SMALL.get(name, {}), **settings, "device": "cpu"})


def do(name, run=None, **settings):
    run = run or Run(make(name, **settings))
    function(name)(run.config, run)
    return run


class Killed(BaseException):
    pass


class Mortal(Run):
    """Keeps checkpoints in memory, and dies right after one of them."""

    def __init__(self, config, dies_at=None, kept=None):
        super().__init__(config)
        self.dies_at, self.kept = dies_at, kept if kept is not None else {}

    def save(self, iteration, state):
        self.kept["last"] = (iteration, state)
        if iteration == self.dies_at:
            raise Killed

    def restore(self):
        return self.kept.get("last")


@pytest.mark.parametrize("name", list(SMALL))
def test_arrays_and_models(name):
    run = do(name)
    for array, dimensions in ARRAYS[name].items():
        assert run.arrays[array].values.ndim == dimensions and np.isfinite(run.arrays[array].values).all()
    assert {table: list(found.frame.columns) for table, found in run.tables.items()} == TABLES[name]
    assert set(run.models) == {"model"} and run.datasets
    assert not run.failure and max(len(points) for points in run.metrics.values()) <= 101


@pytest.mark.parametrize("name", list(SMALL))
def test_a_killed_run_resumes_to_the_last_bit(name):
    every, dies_at = (2, 4) if name == "cifar_resnet" else (5, 5)
    settings = {"checkpoint_every": every}
    whole = do(name, **settings)
    first = Mortal(make(name, **settings), dies_at)
    with pytest.raises(Killed):
        do(name, first)
    second = do(name, Mortal(make(name, **settings), None, first.kept))
    assert set(whole.arrays) == set(second.arrays)
    for table, found in second.tables.items():
        assert_frame_equal(found.frame, whole.tables[table].frame)
    for array, found in second.arrays.items():
        np.testing.assert_array_equal(found.values, whole.arrays[array].values, err_msg=array)
    weights = whole.models["model"].state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in second.models["model"].state_dict().items())


@pytest.mark.parametrize("name", list(SMALL))
def test_several_seeds_are_the_single_ones(name):
    both = do(name, seeds=(3, 4))
    for child, seed in zip(both.children(), (3, 4), strict=True):
        alone = do(name, seeds=(seed,))
        for array, found in alone.arrays.items():
            np.testing.assert_allclose(child.arrays[array].values, found.values, rtol=1e-6, atol=1e-8, err_msg=array)


@pytest.mark.parametrize(
    ("settings", "slope"), [({}, -1), ({"scaling": "paper"}, -1), ({"init": "gp"}, -1), ({"init": "iid"}, 0)]
)
def test_neighbouring_layers(settings, slope):
    run = do("resnet_lipschitz", n_train=100, dim=16, width=32, iterations=20, **settings)
    found = run.tables["slopes"].frame.set_index(["norm", "T"]).exponent
    last = run.arrays["T"].values[-1]
    assert found["paper", last] == pytest.approx(slope, abs=0.1 if slope == 0 else 0.03)
    if not settings:
        assert found["code", last] == pytest.approx(-0.5, abs=0.03)
        T, paper = run.arrays["T"].values, run.arrays["lip_paper"].values
        assert T[0] == 1 and not paper[:, 0].any() and (np.diff(paper, axis=1) >= 0).all()


def test_lip_code_is_the_script_formula():
    run = do("resnet_lipschitz", iterations=10)
    T, found = run.arrays["T"].values, run.arrays["lip_code"].values
    for z, name in enumerate(("incV_max", "incW_max")):  # two layers have one increment: its largest is all of them
        wanted = np.sqrt(np.cumsum(run.arrays[name].values[0] ** 2))
        np.testing.assert_allclose(found[z, 0], wanted[T - 1], rtol=1e-12, atol=1e-18)
    assert run.arrays["pl"].values.shape == (4, 10) and (run.arrays["pl"].values > 0).all()


def test_distance_to_the_reference():
    sizes = {"n_train": 100, "dim": 16, "width": 32}
    run = do("resnet_convergence", **sizes, iterations=10, reference=512, depths=(2, 16, 32, 64, 128))
    dV, dW, sup = (run.arrays[name].values for name in ("dV", "dW", "sup"))
    assert np.abs(dV[:2]).max() < 1e-15 and np.abs(dW[:2]).max() < 1e-15
    assert (np.diff(dV[4:], axis=1) < 0).all() and (sup[4:] >= dV[4:]).all()
    slopes = run.tables["slopes"].frame.pivot(index=["iteration", "quantity"], columns="regressor", values="exponent")
    assert set(slopes.index.get_level_values(0)) == set(range(4, 10))
    np.testing.assert_allclose(slopes["1/L - 1/Lref"], -1, atol=0.02)
    assert (slopes["1/L"] < slopes["1/L - 1/Lref"]).all()  # a finite reference steepens the naive slope


@pytest.mark.parametrize("name", ["resnet_lipschitz", "resnet_convergence"])
def test_memory_does_not_hold_the_trajectory(name):
    """An iteration adds a few numbers for each depth, not the weights of all layers."""
    history, weights = [], 0
    for iterations in (12, 24):
        do(name, run := Mortal(make(name, iterations=iterations, checkpoint_every=12)))
        state = run.kept["last"][1]
        history.append(sum(values.numel() for values in state["history"].values()))
        weights = sum(tensor.numel() for tensor in state["weights"].values())
    assert (history[1] - history[0]) / 12 < 50 < weights / 100


@pytest.mark.parametrize("iterations", [2, 5, 9, 10, 50, 500])
def test_horizons(iterations):
    T = gaussian.horizons(iterations)
    assert T[0] == 1 and (np.diff(T) > 0).all() and T[-1] <= max(iterations - 1, 1)
    if iterations in (50, 500):
        assert len(T) == 10 and T[1] - T[0] == iterations // 10


def test_divergence_of_one_seed_and_of_all():
    with pytest.raises(Diverged):
        do("resnet_lipschitz", learning_rate=1e6)
    many = do("resnet_lipschitz", seeds=(0, 1))
    assert not any(child.failure for child in many.children())


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("resnet_lipschitz", {"depths": (4, 2)}, "ascending"),
        ("resnet_lipschitz", {"activation": "linear"}, "activation=linear"),
        ("resnet_lipschitz", {"kernel": "numba", "activation": "tanh"}, "tanh"),
        ("resnet_convergence", {"reference": 16}, "reference=16"),
        ("resnet_convergence", {"drop": 12}, "drop=12"),
        ("resnet_long_time", {"entries": 7}, "entries=7"),
        ("resnet_long_time", {"record_every": 61}, "record_every=61"),
        ("resnet_long_time", {"record_every": 1, "iterations": 10**7}, "do not fit into memory"),
        ("resnet_lipschitz", {"iterations": 4}, "iterations=4: must be at least 5"),
        ("resnet_lipschitz", {"clip": np.inf}, "clip=inf"),
        ("resnet_lipschitz", {"init": "gp", "lengthscale": 1e-9}, "lengthscale=1e-09"),
        ("resnet_convergence", {"drop": 1}, "drop=1: must be at least 2"),
        ("resnet_convergence", {"iterations": 2, "drop": 2}, "drop=2"),
        ("cifar_resnet", {"batch_size": 128}, "batch_size=128: there are 96"),
        ("cifar_resnet", {"n_train": 60_000}, "n_train=60000"),
        ("cifar_resnet", {"init": "gp"}, "init=gp"),
    ],
)
def test_wrong_parameters(name, settings, word):
    with pytest.raises(BadInput, match=word):
        make(name, **settings)


def test_theory_computes_on_the_processor():
    with pytest.raises(BadInput, match="resnet_theory computes on the processor"):
        configs.ResnetTheory(device="cuda")


def test_the_shortest_run_has_an_exponent():
    run = do("resnet_lipschitz", iterations=5)
    assert np.isfinite([run.metrics[f"slope/{norm}"][-1][1] for norm in ("paper", "code")]).all()
    run = do("resnet_convergence", iterations=3, drop=2)
    found = run.tables["slopes"].frame
    assert set(found.iteration) == {2} and np.isfinite(found[["exponent", "low", "high"]]).all(axis=None)


@pytest.mark.parametrize(
    "settings", [{"n_train": 1, "dim": 1, "width": 1, "activation": "identity"}, {"learning_rate": 1e-320}]
)
def test_layers_that_never_part_have_no_exponent_and_the_run_says_so(settings):
    run = do("resnet_lipschitz", **settings)
    metrics = {name: value for name, points in run.metrics.items() for _, value in points}
    assert np.isfinite(list(metrics.values())).all()
    assert "slope/paper" in run.notes.get("exponents", "") or "slope/paper" in metrics


@pytest.mark.parametrize("name", ["resnet_lipschitz", "resnet_convergence", "resnet_long_time"])
@pytest.mark.parametrize("rate", [1e308, np.inf])
def test_a_step_that_is_too_long_diverges(name, rate):
    with pytest.raises(Diverged):
        do(name, learning_rate=rate)


def test_what_the_convolutional_net_does_with_absurd_numbers():
    for settings in ({"learning_rate": 1000, "weight_decay": 1000}, {"learning_rate": 1000}):
        with pytest.raises(Diverged):  # of the second the training loss stays finite, the test loss does not
            do("cifar_resnet", **settings)
    for name in ("learning_rate", "weight_decay"):
        with pytest.raises(BadInput, match=f"{name}=inf: must be at most 1000"):
            make("cifar_resnet", **{name: np.inf})


@pytest.mark.parametrize("target", [1.01, 16.0])
def test_the_counterexample_converges_for_every_target_that_is_allowed(target):
    assert all(check.passed for check in theory.counterexample(64, target)[1])
    with pytest.raises(BadInput, match="target=17"):
        configs.ResnetTheory(target=17)


def test_old_spellings_are_the_same_parameters():
    old = {"n": "30", "d": "6", "m": "8", "lr": "0.02", "iters": "12", "sigma": "relu", "depths": "2,4,8"}
    names = ("n_train", "dim", "width", "learning_rate", "iterations", "activation", "depths")
    new = dict(zip(names, old.values(), strict=True))
    assert resolve(configs.ResnetLipschitz, old) == resolve(configs.ResnetLipschitz, new)
    old = {"planes": "4", "sigma": "relu", "bn": "false", "lr": "0.1", "wd": "0", "n_epochs": "3", "batch": "8"}
    both = resolve(configs.CifarResnet, {**old, "subset": "100", "test_subset": "20"})
    assert (both.channels, both.activation, both.batch_norm, both.learning_rate, both.weight_decay) == (
        4, "relu", False, 0.1, 0,
    )  # fmt: skip
    assert (both.epochs, both.batch_size, both.n_train, both.n_test) == (3, 8, 100, 20)
    with pytest.raises(BadInput, match="given twice"):
        resolve(configs.CifarResnet, {"lr": "0.1", "learning_rate": "0.1"})


def test_accuracies_are_fractions_and_weights_say_how_far_they_moved():
    run = do("cifar_resnet")
    epochs, smooth = run.tables["epochs"].frame, run.tables["smoothness"].frame
    assert epochs[["train_accuracy", "test_accuracy"]].to_numpy().max() <= 1
    assert run.metrics["test/accuracy"] == list(zip(epochs.epoch, epochs.test_accuracy, strict=True))
    assert run.metrics["test/accuracy_max"] == [(2, epochs.test_accuracy.max())]
    for i in (1, 2):
        end, start = (run.arrays[f"conv{i}{ending}"].values for ending in ("", "_start"))
        wanted = np.linalg.norm(end - start) / max(np.linalg.norm(end), np.linalg.norm(start))
        found = smooth[(smooth.epoch == 2) & (smooth.convolution == i)].moved.item()
        assert found == pytest.approx(wanted, rel=1e-5) and found > 0
    assert (do("cifar_resnet", batch_norm=False).tables["smoothness"].frame.moved <= 2).all()  # one starts from 0


def test_missing_images_are_named(tmp_path, monkeypatch):
    from reprod.data import images

    monkeypatch.setattr(images, "ensure", lambda *a, **k: (_ for _ in ()).throw(BadInput("cifar10 was not found")))
    with pytest.raises(BadInput, match="cifar10"):
        make("cifar_resnet", dataset="cifar10", data_dir=str(tmp_path)).prepare()
    make("cifar_resnet", data_dir=str(tmp_path)).prepare()  # synthetic images need none


def test_what_does_not_matter_is_not_in_the_digest():
    base = make("resnet_lipschitz")
    assert base.digest() == make("resnet_lipschitz", lengthscale=0.1, kernel="torch").digest()
    assert make("resnet_lipschitz", init="gp").digest() != make("resnet_lipschitz", init="gp", lengthscale=0.1).digest()
    paper = configs.ResnetLipschitz()
    assert paper.digest() == at_scale(configs.ResnetLipschitz, "small").digest()
    assert dataclasses.replace(paper, depths=(2, 16, 64, 256, 1014)).digest() != paper.digest()


def test_theory_experiment():
    run = do("resnet_theory", depths=(8, 16, 32))
    checks = run.tables["checks"].frame
    assert len(checks) >= 15 and checks.passed.all(), checks[~checks.passed]
    assert run.metrics["checks/failed"] == [(0, 0.0)] and run.metrics["checks/passed"] == [(0, len(checks))]
    assert list(run.tables["euler"].frame.depth) == [8, 16, 32]


def test_the_parameters_load_without_torch():
    code = "import sys, reprod.residual_limit.config; assert not {'torch', 'numba', 'mlflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
