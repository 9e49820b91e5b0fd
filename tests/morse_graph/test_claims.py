"""What the claims compute from tables and arrays, on records made by hand: no store, no training."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reprod.analysis.morse_graph import cost, structure, sweeps
from reprod.analysis.morse_graph.picture import Picture
from reprod.analysis.morse_graph.runs import surrogate, training
from reprod.figures.claims import NOT_REPRODUCED, REPRODUCED, UNDECIDED, prediction
from reprod.figures.figure import Runs

PAPER = ("paper",)


@dataclass
class Held:
    """A record of one seed."""

    config: Any
    seed: int
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    id: str = "run"

    def table(self, name):
        return self.tables[name]

    def array(self, name):
        return self.arrays[name]


def ensembles(name, accuracies):
    config = training(name, "paper")
    tables = [{"networks": pd.DataFrame({"accuracy_swapped": a})} for a in accuracies]
    return config, [Held(config, seed, tables=t) for seed, t in enumerate(tables)]


def graphs(indices, *, seeds=5, tile=100, accuracy=None, inside=None, **settings):
    """Graphs with one and the same table of nodes for each seed; `tile` of 1000 cells, or one for each seed."""
    config = surrogate("iris_epoch_450", "paper", **settings)
    made = []
    for seed in range(seeds):
        nodes = structure.nodes_table(indices)
        nodes["tile"] = np.broadcast_to(tile, seeds)[seed]
        networks = pd.DataFrame({"accuracy_swapped": [0.9], "inside": [True], "region": ["0"]})
        if accuracy is not None:
            networks = pd.DataFrame({"accuracy_swapped": accuracy, "inside": inside})
            networks["region"] = np.where(inside, "0", "1")
        tables = {"nodes": nodes, "arrows": pd.DataFrame({"from": [], "to": []}), "networks": networks}
        arrays = {"sigma": np.zeros((10, 100)), "morse": np.zeros((10, 100)), "box": np.zeros((2, 2))}
        made.append(Held(config, seed, tables=tables, arrays=arrays))
    return config, made


def verdict(claims, name):
    return next(c for c in claims if c.name == name).judge("paper").verdict


# -- ensembles ------------------------------------------------------------------------------------------------------


def sweep(of_each, seeds=5):
    """Iris by batch size, with the mean accuracies of the first seed and a small spread over seeds."""
    names = sweeps.SWEEPS["iris"]["batch size"].values()
    rng = np.random.default_rng(0)
    found = [
        ensembles(name, [mean + 0.003 * rng.normal() + np.array([-0.1, 0.0, 0.1]) for _ in range(seeds)])
        for name, mean in zip(names, of_each, strict=True)
    ]
    return Runs(found, "paper")


def batch_claims(runs):
    return [c for c in sweeps.sweep_claims(complete(runs), "iris", "mean") if "batch size" in c.name]


def complete(runs):
    """The other trainings, so that every sweep has its values."""
    have = {sweeps.what_is_trained(config) for config, _ in runs}
    names = dict.fromkeys(name for names in sweeps.SWEEPS["iris"].values() for name in names.values())
    rest = [ensembles(name, [np.full(3, 0.9)] * 5) for name in names if sweeps.CONFIGURATIONS[name] not in have]
    return Runs([*runs, *rest], "paper")


def test_the_published_sweep_is_reproduced_and_one_wrong_value_is_not():
    published = [0.92, 0.79, 0.60, 0.44]
    assert [c.judge("paper").verdict for c in batch_claims(sweep(published))] == [REPRODUCED, REPRODUCED]
    wrong = batch_claims(sweep([0.92, 0.79, 0.60, 0.54]))
    assert verdict(wrong, "iris mean by batch size") == NOT_REPRODUCED
    assert verdict(wrong, "iris mean order by batch size") == REPRODUCED
    backwards = batch_claims(sweep(published[::-1]))
    assert verdict(backwards, "iris mean order by batch size") == NOT_REPRODUCED


def test_a_spread_that_one_ensemble_cannot_beat_stays_undecided_however_many_of_ours_there_are():
    """The paper's number is one draw: more of our ensembles do not narrow it below the spread of one."""
    names = list(sweeps.SWEEPS["iris"]["batch size"].values())
    rng = np.random.default_rng(1)
    for seeds in (5, 100):
        found = [ensembles(n, [np.full(3, p + 0.03 * rng.normal()) for _ in range(seeds)])
                 for n, p in zip(names, (0.92, 0.79, 0.60, 0.44), strict=True)]  # fmt: skip
        claim = next(c for c in batch_claims(Runs(found, "paper")) if c.name == "iris mean by batch size")
        finding = claim.judge("paper")
        assert finding.verdict == UNDECIDED
        assert finding.further_seeds is None


def test_a_seed_without_a_result_fails_the_claim():
    runs = sweep([0.92, 0.79, 0.60, 0.44])
    config, records = runs.found[0]
    runs.found[0] = (config, records[:-1])
    assert verdict(batch_claims(runs), "iris mean by batch size") == NOT_REPRODUCED


def test_one_ensemble_decides_nothing():
    runs = Runs([(config, records[:1]) for config, records in sweep([0.92, 0.79, 0.60, 0.44])], "paper")
    for config, _ in runs:
        object.__setattr__(config, "seeds", (0,))
    claim = next(c for c in batch_claims(runs) if "order" not in c.name)
    assert claim.judge("paper").verdict == UNDECIDED


@pytest.mark.parametrize(("glorot", "expected"), [(0.22, REPRODUCED), (1.1, NOT_REPRODUCED), (0.5, NOT_REPRODUCED)])
def test_two_modes_need_two_modes(glorot, expected):
    """A threshold at 0.6 would call the lower tail of any distribution a mode."""
    rng = np.random.default_rng(0)
    found = []
    for layers, name in sweeps.DEEP.items():
        config = training(name, "paper")
        kind = sweeps.starts(f"mnist_L{layers}")
        for_seed = [np.where(kind == "glorot", glorot, 1.1) + 0.01 * rng.normal(size=len(kind)) for _ in range(5)]
        records = [Held(config, s, {"weights": pd.DataFrame({"spread": v})}) for s, v in enumerate(for_seed)]
        found.append((config, records))
    assert sweeps.two_modes(Runs(found, "paper")).judge("paper").verdict == expected


def test_starts_follow_the_layers():
    kind = sweeps.starts("mnist_L2")
    assert len(kind) == 90
    assert (kind[:18] == "uniform2").all()
    assert (kind[18:54] == "glorot").all()
    assert (kind[54:] == "uniform2").all()


# -- graphs ---------------------------------------------------------------------------------------------------------


def tile_claim(shares, label="shuffled"):
    """Shares of the tile in per cent, one for each seed."""
    settings = {"pairing": structure.LABELS[label]}
    tiles = (10 * np.array(shares)).astype(int)
    other = graphs(["(x-1, 0, 0)"], pairing="by_net" if label == "shuffled" else "shuffled")
    found = [graphs(["(x-1, 0, 0)"], seeds=len(shares), tile=tiles, **settings), other]
    claims = structure.numbers(Runs(found, "paper"), "Iris", "figure 3", {structure.TILE: 46}, PAPER, "")
    return next(c for c in claims if c.name.endswith(label)).judge("paper")


def test_a_number_within_the_range_of_widely_scattered_runs_is_not_reproduced():
    """Between the least and the most of our runs lies almost anything, and the more runs, the more of it."""
    assert tile_claim([10, 30, 50, 70, 100]).verdict == UNDECIDED
    assert tile_claim([45, 46, 46.5, 46, 47]).verdict == REPRODUCED
    assert tile_claim([42.5, 49.5, 46, 44, 48]).verdict == UNDECIDED  # the mean is 46 to within 5, a single run is not
    assert tile_claim([86, 88, 85, 87, 84], "paired").verdict == NOT_REPRODUCED


def test_further_shuffles_of_a_seed_are_no_further_samples():
    first = graphs(["(x-1, 0, 0)"], pairing="shuffled", tile=[100, 300, 500, 700, 1000])
    more = [graphs(["(x-1, 0, 0)"], pairing="shuffled", shuffle=k, tile=460) for k in (1, 2, 3)]
    paired = graphs(["(x-1, 0, 0)"])
    few, many = (
        list(structure.numbers(Runs(found, "paper"), "Iris", "s", {structure.TILE: 46}, PAPER, ""))[1].judge("paper")
        for found in ([first, paired], [first, *more, paired])
    )
    assert few.n == many.n == 5
    assert few.interval == many.interval


def test_sizes_are_compared_by_factors():
    found = structure.geometric([100.0, 200.0, 400.0])
    assert found.value == pytest.approx(200)
    assert found.low * found.high == pytest.approx(200**2)
    assert not structure.geometric([100.0, 0.0, 400.0]).known
    assert not structure.geometric([]).known


def upper(indices, **settings):
    found = [graphs(indices, pairing="shuffled", **settings)]
    return structure.upper_nodes(Runs(found, "paper"), "Iris", "figure 3", "shuffled").judge("paper")


def test_upper_nodes_count_by_their_index():
    attractor, saddle, nothing = "(x-1, 0, 0)", "(0, x+1, 0)", "(0, 0, 0)"
    assert upper([attractor, saddle]).verdict == REPRODUCED
    assert upper([attractor, nothing]).verdict == NOT_REPRODUCED
    assert upper([attractor, nothing, nothing, saddle]).value == pytest.approx(1 / 3)
    assert upper([attractor]).verdict == UNDECIDED  # no upper node at all


def test_by_chance_the_tiles_explain_nothing():
    """The mean over all permutations of the accuracies is zero, whatever the tiles."""
    rng = np.random.default_rng(0)
    inside = np.arange(40) < 9
    accuracy = rng.uniform(size=40) ** 3
    found = [
        structure.explained(Picture(graphs(["(x-1, 0, 0)"], seeds=1, accuracy=a, inside=inside)[1][0]))
        for a in rng.permuted(np.tile(accuracy, (2000, 1)), axis=1)
    ]
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / np.sqrt(2000))
    whole = structure.explained(Picture(graphs(["(x-1, 0, 0)"], seeds=1, accuracy=inside * 1.0, inside=inside)[1][0]))
    assert whole == pytest.approx(1 - 1 / 39)


def test_the_region_predicts_only_if_medians_differ():
    ladder = np.linspace(0.7, 1.0, 100)
    inside = np.arange(100) % 4 == 0

    def judged(accuracy, inside=inside):
        runs = Runs([graphs(["(x-1, 0, 0)"], accuracy=accuracy, inside=inside)], "paper")
        return {c.name: c.judge("paper") for c in structure.predicts(runs, "figure 5", "paired", PAPER, "")}

    medians, tiles = "region predicts accuracy, medians, paired", "region predicts accuracy, all tiles, paired"
    same, better = judged(ladder), judged(ladder + 0.1 * inside)
    assert [same[medians].verdict, same[tiles].verdict] == [NOT_REPRODUCED, NOT_REPRODUCED]
    assert [better[medians].verdict, better[tiles].verdict] == [REPRODUCED, REPRODUCED]
    assert judged(ladder - 0.1 * inside)[medians].verdict == NOT_REPRODUCED
    few = judged(ladder, inside=np.arange(100) < structure.ENOUGH - 1)
    assert few[medians].verdict == UNDECIDED


def test_growth_is_the_factor_of_a_step():
    table = pd.DataFrame({"seed": 0, "dimension": [2, 3, 4, 5], "graph": [9.0, 1.0, 3.0, 9.0]})
    assert cost.growth(table, "dimension", 3) == pytest.approx([3.0])
    assert np.isnan(cost.growth(table, "dimension", 1)).all()


def test_a_prediction_never_gets_narrower_than_one_published_run():
    """For the number of further seeds; with a published mean of many it does."""
    from reprod.figures.claims import Equals, our_limit

    samples = [0.0, 1.0, -1.0, 0.5, -0.5]
    claims = [
        Equals(name="x", statement="x", source="x", published="0", basis=our_limit("x"), samples=samples, target=0.0,
               tolerance=1.0, why="x", spread=False, paper_n=n)
        for n in (1, 1000)
    ]  # fmt: skip
    one, many = (claim.judge("paper") for claim in claims)
    assert one.verdict == UNDECIDED
    assert one.further_seeds is None
    assert many.verdict == REPRODUCED or many.further_seeds
    assert prediction(samples, 1).against == 1
