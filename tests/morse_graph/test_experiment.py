"""The experiments in memory: what they report, that they repeat themselves, and what a configuration refuses."""

import copy

import numpy as np
import pytest

from reprod.config import at_scale, resolve
from reprod.errors import BadInput, Interrupted
from reprod.morse_graph import config as c
from reprod.morse_graph import experiment, maps
from reprod.morse_graph.architectures import ARCHITECTURES
from reprod.morse_graph.config import SWEEP, IrisTraining, MorseGraph
from reprod.run import Run

FAST = {"nets": 10, "epochs": 12}


def trained(**settings):
    config = at_scale(IrisTraining, "smoke", **{**FAST, **settings})
    run = Run(config)
    experiment.train(config, run)
    return run


def graph(**settings):
    config = at_scale(MorseGraph, "smoke", **{**FAST, "subdivisions": 8, **settings})
    run = Run(config)
    experiment.morse_graph(config, run)
    return run


def last(run):
    return {name: points[-1][1] for name, points in run.metrics.items()}


def test_every_configuration_names_a_network():
    assert len(c.CONFIGURATIONS) == 24
    assert {network for network, _, _ in c.CONFIGURATIONS.values()} <= set(ARCHITECTURES)
    assert set(c.KNOWN) == set(maps.KNOWN_MAPS)


def test_a_training_reports_its_networks():
    run = trained(seeds=(0, 1))
    for child in run.children():
        shapes = {name: array.values.shape for name, array in child.arrays.items()}
        assert shapes["early"] == shapes["final"] == (10, 6)
        assert shapes["prob"] == (10, 75, 3)
        assert shapes["entropy"] == shapes["labels"] == (75,)
        assert shapes["test_loss"] == (10, 2)
        assert last(child)["test/accuracy"] == pytest.approx(child.arrays["accuracy"].values.mean(), abs=1e-6)
        assert [d["split"] for d in child.datasets] == ["train", "test"]
        assert child.models["model"].weights.shape == (10, 9)
    first, second = (child.arrays["final"].values for child in run.children())
    assert not np.isin(first, second).any()  # two seeds share no network


def test_seeds_together_and_alone_agree_to_the_bit():
    together = trained(seeds=(0, 1)).children()[1]
    alone = trained(seeds=(1,))
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(together.arrays[name].values, array.values)


class Keeping(Run):
    """Keeps its checkpoints in memory and stops at one of them."""

    kept = None

    def save(self, iteration, state):
        type(self).kept = iteration, copy.deepcopy(dict(state))
        if iteration == 6:
            raise Interrupted(15)

    def restore(self):
        return self.kept


def test_an_interrupted_training_continues_to_the_same_networks():
    config = at_scale(IrisTraining, "smoke", **FAST, checkpoint_every=3, seeds=(0, 1))
    with pytest.raises(Interrupted):
        experiment.train(config, Keeping(config))
    assert Keeping.kept[0] == 6
    resumed, whole = Keeping(config), trained(seeds=(0, 1))
    experiment.train(config, resumed)
    for a, b in zip(resumed.children(), whole.children(), strict=True):
        for name, array in b.arrays.items():
            np.testing.assert_array_equal(a.arrays[name].values, array.values)


def test_a_graph_uses_the_networks_of_its_training():
    run = graph(seeds=(3,))
    weights = experiment.ranked(trained(seeds=(3,)).arrays["final"].values, "largest", 2)
    early = trained(seeds=(3,)).arrays["early"].values[:, weights]
    np.testing.assert_allclose(run.arrays["early"].values, early, atol=1e-6)
    assert "trained in this run" in run.notes["training"]
    spread = run.arrays["final"].values.std(axis=0)
    assert spread[0] <= spread[1]  # ascending, as published


def test_a_graph_is_the_same_twice():
    a, b = graph(), graph()
    assert last(a) == last(b)
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array.values, b.arrays[name].values)


@pytest.mark.parametrize(
    "settings",
    [
        {"pairing": "shuffled"},
        {"pair": "smallest"},
        {"dimension": 3, "subdivisions": 9},
        {"prior": "identity"},
        {"prune": True},
        {"z": 0.5},
        {"level": 0.9, "conley": False},
        {"padding": False},
    ],
    ids=str,
)
def test_variants_report_a_whole_graph(settings):
    run = graph(**settings)
    sigma, nodes, morse = (run.arrays[name].values for name in ("sigma", "nodes", "morse"))
    assert sigma.ndim == settings.get("dimension", 2)
    assert (nodes[:, 0] == [np.sum(morse == q) for q in range(len(nodes))]).all()
    assert (nodes[:, 1] == [np.sum(sigma == q) for q in range(len(nodes))]).all()
    assert 0 < last(run)["tile/p"] <= 1
    assert len(run.arrays["region"].values) == 10


def test_pairing_by_net_and_shuffles():
    paired = graph().arrays["rows"].values
    shuffled = [graph(pairing="shuffled", shuffle=k).arrays["rows"].values for k in (0, 1)]
    assert (paired == np.arange(10)).all()
    assert all(sorted(rows) == list(range(10)) for rows in shuffled)
    assert (shuffled[0] != shuffled[1]).any()


def test_sweeps_and_bootstrap():
    run = graph(sweep=(4, 6), sweep_dimensions=(2, 3), bootstrap=3)
    sweep = run.arrays["sweep"].values
    assert sweep.shape == (4, len(SWEEP))
    assert sweep[:, 0].tolist() == [4, 6, 8, 8]
    assert sweep[:, 1].tolist() == [2, 2, 2, 3]
    assert (run.arrays["timing_sweep"].values > 0).all()
    assert run.arrays["bootstrap"].values.shape == (3, 3)


@pytest.mark.parametrize("name", sorted(maps.KNOWN_MAPS))
def test_known_maps_need_no_training(name):
    run = graph(map=name, subdivisions=6, padding=False)
    assert last(run)["graph/nodes"] >= 1
    assert "training" not in run.notes


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"z": "1", "level": "0.9"}, "z and level"),
        ({"map": "leslie", "z": "1"}, "known map has no deviation"),
        ({"network": "iris_L9"}, "iris_L9 is not one of"),
        ({"pairing": "published"}, "not one of by_net, shuffled"),
        ({"subdivisions": "30"}, "at most 24"),
    ],
)
def test_mistakes_are_named(values, sentence):
    with pytest.raises(BadInput, match=sentence):
        resolve(MorseGraph, values)


def test_identity_ignores_what_has_no_effect():
    base = at_scale(MorseGraph, "paper")
    assert base.digest() == at_scale(MorseGraph, "paper", shuffle=3, images=5).digest()
    assert base.digest() != at_scale(MorseGraph, "paper", pairing="shuffled").digest()
    leslie = at_scale(MorseGraph, "paper", map="leslie")
    assert leslie.digest() == at_scale(MorseGraph, "paper", map="leslie", network="mnist_L1").digest()
    assert base.training().digest() == at_scale(IrisTraining, "paper", epochs=450).digest()
