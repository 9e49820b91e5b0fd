"""The experiments in memory: what they report, that they repeat themselves, and what a configuration refuses."""

import copy

import numpy as np
import pytest

from reprod.config import at_scale, resolve
from reprod.errors import BadInput, Interrupted
from reprod.jobs.launch import ineffective
from reprod.morse_graph import config as c
from reprod.morse_graph import dynamics, ensemble, maps, morse
from reprod.morse_graph.architectures import ARCHITECTURES
from reprod.morse_graph.config import IrisTraining, MnistTraining, MorseGraph
from reprod.run import Run

FAST = {"networks": 10, "epochs": 12}


def trained(**settings):
    config = at_scale(IrisTraining, "smoke", **{**FAST, **settings})
    run = Run(config)
    ensemble.train(config, run)
    return run


def graph(**settings):
    config = at_scale(MorseGraph, "smoke", **{**FAST, "subdivisions": 8, **settings})
    run = Run(config)
    dynamics.morse_graph(config, run)
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
        each, weights = child.tables["networks"].frame, child.tables["weights"].frame
        assert last(child)["test/accuracy"] == each["accuracy"].mean()
        assert last(child)["test/loss"] == each["test_loss_final"].mean()
        assert weights["weight"].tolist() == [f"dense_kernel_0_{i}" for i in range(6)]
        np.testing.assert_allclose(weights["spread"], child.arrays["final"].values.std(axis=0), rtol=1e-5)
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
        ensemble.train(config, Keeping(config))
    assert Keeping.kept[0] == 6
    resumed, whole = Keeping(config), trained(seeds=(0, 1))
    ensemble.train(config, resumed)
    for a, b in zip(resumed.children(), whole.children(), strict=True):
        for name, array in b.arrays.items():
            np.testing.assert_array_equal(a.arrays[name].values, array.values)


def test_a_graph_uses_the_networks_of_its_training():
    run = graph(seeds=(3,))
    weights = dynamics.ranked(trained(seeds=(3,)).arrays["final"].values, "largest", 2)
    early = trained(seeds=(3,)).arrays["early"].values[:, weights]
    np.testing.assert_allclose(run.arrays["early"].values, early, atol=1e-6)
    assert "computed in this run" in run.notes["upstream"]
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
    sigma, morse, nodes = run.arrays["sigma"].values, run.arrays["morse"].values, run.tables["nodes"].frame
    assert sigma.ndim == settings.get("dimension", 2)
    assert nodes["cells"].tolist() == [np.sum(morse == q) for q in nodes["node"]]
    assert nodes["tile"].tolist() == [np.sum(sigma == q) for q in nodes["node"]]
    assert nodes["main_attractor"].sum() == 1
    assert (nodes["index"].str.startswith("(")).all() == settings.get("conley", True)
    assert set(run.tables["arrows"].frame["from"]) <= set(nodes["node"])
    assert 0 < last(run)["tile/p"] <= 1
    starts = run.tables["networks"].frame
    assert len(starts) == 10
    cells = {str(q) for q in nodes["node"]} | {"leaves the box", "no order retraction"}
    assert set(starts["region"]) <= cells  # the box holds all starts
    (main,) = nodes["node"][nodes["main_attractor"]]
    assert (starts["inside"] == (starts["region"] == str(main))).all()


def test_pairing_by_net_and_shuffles():
    paired = graph().tables["networks"].frame["paired_with"]
    shuffled = [graph(pairing="shuffled", shuffle=k).tables["networks"].frame["paired_with"] for k in (0, 1)]
    assert (paired == np.arange(10)).all()
    assert all(sorted(rows) == list(range(10)) for rows in shuffled)
    assert (shuffled[0] != shuffled[1]).any()


def test_sweeps_and_bootstrap():
    run = graph(sweep=(4, 6), sweep_dimensions=(2, 3), bootstrap=3)
    sweep, timing = run.tables["sweep"].frame, run.tables["timing_sweep"].frame
    for table in (sweep, timing):
        assert table["subdivisions"].tolist() == [4, 6, 8, 8]
        assert table["dimension"].tolist() == [2, 2, 2, 3]
    assert (timing[["fit", "graph"]] > 0).all(axis=None)
    assert run.tables["bootstrap"].frame["resample"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"z": 1.0},
        {"level": 0.9},
        {"prune": True},
        {"prune": True, "pairing": "shuffled", "z": 0.5},
        {"padding": False, "conley": False},
        {"pair": "smallest", "pairing": "shuffled"},
        {"map": "bistable", "prune": True},
        {"map": "product", "padding": False},
    ],
    ids=str,
)
def test_a_sweep_and_the_graph_at_the_same_subdivisions_agree(settings):
    run = graph(sweep=(8,), **({} if "map" in settings else {"sweep_dimensions": (2,)}), **settings)
    whole = last(run)
    for _, row in run.tables["sweep"].frame.iterrows():
        assert row["nodes"] == whole["graph/nodes"]
        assert row["recurrent_cells"] == whole["graph/recurrent_cells"]
        assert row["edges"] == whole["graph/edges"]
        assert row["undecided"] == whole["graph/undecided"]
        assert row["attractor_tile"] == whole["attractor/tile"]


def test_a_resample_is_counted_like_the_graph():
    """Pruned where the graph is: pruned nodes are as few in the resamples."""
    whole, pruned = (graph(bootstrap=4, prune=prune).tables["bootstrap"].frame for prune in (False, True))
    assert (whole["recurrent_cells"] == pruned["recurrent_cells"]).all()
    assert (pruned["nodes"] <= whole["nodes"]).all()
    assert (pruned["nodes"] < whole["nodes"]).any()


def test_a_graph_of_too_many_edges_ends_with_a_sentence(monkeypatch):
    monkeypatch.setattr(morse, "MAX_EDGES", 10_000)
    with pytest.raises(BadInput, match=r"at 8 subdivisions the graph has .* edges, more than 10,000: lower"):
        graph(z=2.0)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:9", "mps"])
@pytest.mark.parametrize("cls", [IrisTraining, MnistTraining, MorseGraph])
def test_a_device_that_would_not_compute_is_refused(cls, device):
    with pytest.raises(BadInput, match=f"device={device}: {cls.experiment} computes on the processor"):
        resolve(cls, {"device": device}).prepare()


@pytest.mark.parametrize("name", sorted(maps.KNOWN_MAPS))
def test_known_maps_need_no_training(name):
    run = graph(map=name, subdivisions=6, padding=False)
    assert last(run)["graph/nodes"] >= 1
    assert "upstream" not in run.notes


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"z": "1", "level": "0.9"}, "z and level"),
        ({"map": "leslie", "z": "1"}, "known map has no deviation"),
        ({"architecture": "iris_L9"}, "iris_L9 is not one of"),
        ({"network": "iris_L9"}, "iris_L9 is not one of"),
        ({"pairing": "published"}, "not one of by_net, shuffled"),
        ({"subdivisions": "30"}, "at most 24"),
        ({"z": "inf"}, "at most 100"),
        ({"z": "nan"}, "expected a number"),
        ({"permutations": "1000000000"}, "at most 99999"),
        ({"n_train": "20000"}, "at most 12665"),
        ({"networks": "1"}, "at least 2"),
        ({"training_run": "a", "seeds": "0-2,1"}, "each seed once"),
        ({"nets": "5", "networks": "5"}, "given twice"),
    ],
)
def test_mistakes_are_named(values, sentence):
    with pytest.raises(BadInput, match=sentence):
        resolve(MorseGraph, values)


def test_a_seed_beyond_64_bits_is_refused():
    with pytest.raises(BadInput, match="less than 2"):
        resolve(IrisTraining, {"seeds": str(2**63)})
    with pytest.raises(BadInput, match="less than 2"):
        resolve(MorseGraph, {"seeds": str(2**63)}).upstream()


def test_identity_ignores_what_has_no_effect():
    base = at_scale(MorseGraph, "paper")
    assert base.digest() == at_scale(MorseGraph, "paper", shuffle=3, n_train=5).digest()
    assert base.digest() != at_scale(MorseGraph, "paper", pairing="shuffled").digest()
    leslie = at_scale(MorseGraph, "paper", map="leslie")
    assert leslie.digest() == at_scale(MorseGraph, "paper", map="leslie", architecture="mnist_L1").digest()
    assert base.training().digest() == at_scale(IrisTraining, "paper", epochs=450).digest()
    pruned = at_scale(MorseGraph, "paper", map="leslie", prune=True)
    assert pruned.digest() == at_scale(MorseGraph, "paper", map="leslie", prune=True, conley=False).digest()


def test_what_has_no_effect_is_said():
    typed = {"shuffle": "3", "images": "7", "scale": "smoke"}
    assert ineffective(resolve(MorseGraph, typed), typed) == {"shuffle", "n_train"}
    assert not ineffective(resolve(MorseGraph, {"shuffle": "3", "pairing": "shuffled"}), ["shuffle", "pairing"])
    pruned = {"prune": "true", "conley": "false", "map": "leslie", "pair": "smallest"}
    assert ineffective(resolve(MorseGraph, pruned), pruned) == {"conley", "pair"}


def test_earlier_spellings_are_understood():
    old = {"network": "mnist_L2", "nets": "7", "images": "50"}
    config = resolve(MnistTraining, old)
    assert (config.architecture, config.networks, config.n_train) == ("mnist_L2", 7, 50)
    assert resolve(MorseGraph, {**old, "phase_subdiv": "9"}).subdivisions == 9


def test_a_graph_builds_on_the_training_of_its_parameters():
    config = at_scale(MorseGraph, "paper", architecture="mnist_L1", epochs=8, batch_size=128, n_train=300, seeds=(2,))
    (training,) = config.upstream()
    assert training == at_scale(MnistTraining, "paper", epochs=8, n_train=300, seeds=(2,))
    (named,) = at_scale(MorseGraph, "paper", training_run="abc").upstream()
    assert named.run_id == "abc"
    assert at_scale(MorseGraph, "paper", map="leslie").upstream() == ()
