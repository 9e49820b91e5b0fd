"""Claims on made-up records: what must be said of runs in which the paper is wrong, or that show nothing."""

import numpy as np
import pandas as pd
import pytest

from reprod.config import at_scale
from reprod.figures.claims import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, UNDECIDED
from reprod.figures.figure import Runs, figures
from reprod.residual_limit.config import CifarResnet, ResnetConvergence, ResnetLipschitz, ResnetLongTime

SEEDS = range(5)


class Made:
    """A record that holds what a test gives it."""

    def __init__(self, seed, arrays=None, tables=None):
        self.seed, self.id, self.arrays, self.tables = seed, f"made-{seed}", arrays or {}, tables or {}

    def array(self, name):
        return self.arrays[name]

    def table(self, name):
        return self.tables[name].copy()


def verdicts(figure, found, scale="paper"):
    (chosen,) = figures("residual_limit", id=figure)
    return {f.name: f.verdict for f in chosen.findings(Runs(found, scale))}


# -- figure 1 left ----------------------------------------------------------------------------------------------------

T, DEPTHS = np.arange(1, 499, 50), np.array([2, 16, 64, 256, 1024])


def neighbours(curve, seeds=SEEDS, change=lambda lip: lip, depths=DEPTHS):
    """Distances curve(T)/L, a little different for each seed."""
    config = at_scale(ResnetLipschitz, "paper", seeds=tuple(seeds))
    records = []
    for seed in seeds:
        lip = change((1 + 0.01 * seed) * curve(T.astype(float)) / depths[:, None].astype(float))
        lip[:, 0] = 0
        arrays = {"T": T, "depths": depths, "lip_paper": lip, "lip_code": np.stack([lip, lip / 5])}
        records.append(Made(seed, arrays))
    return [(config, records)]


def test_a_power_of_the_training_time_is_not_exponential_and_an_exponential_is():
    power = verdicts("fig1_left", neighbours(lambda T: (T / 500) ** 1.3))
    assert [power[name] for name in ("slope", "all_times", "flat", "growth", "not_exponential")] == [REPRODUCED] * 5
    assert power["script"] == NOT_REPRODUCED  # this one falls as 1/L, too
    exponential = verdicts("fig1_left", neighbours(lambda T: 0.2 * np.exp(T / 180)))  # 0.25 at T = 51, 2.4 at 451
    assert exponential["not_exponential"] == NOT_REPRODUCED and exponential["growth"] == REPRODUCED
    bound = verdicts("fig1_left", neighbours(lambda T: T * np.exp(T / 50)))
    assert bound["not_exponential"] == NOT_REPRODUCED


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_an_exponent_without_a_number_decides_nothing(value):
    def spoil(lip):
        lip[3, -1] = value
        return lip

    found = verdicts("fig1_left", neighbours(lambda T: (T / 500) ** 1.3, change=spoil))
    assert found["slope"] == found["all_times"] == UNDECIDED
    assert np.isfinite(value) or found["flat"] == UNDECIDED


def test_one_seed_decides_nothing_and_a_lost_one_is_counted():
    assert set(verdicts("fig1_left", neighbours(lambda T: T / 500, seeds=[2])).values()) == {UNDECIDED}
    ((config, records),) = neighbours(lambda T: T / 500)
    assert verdicts("fig1_left", [(config, records[:4])])["slope"] == NOT_REPRODUCED


# -- figure 1 right ---------------------------------------------------------------------------------------------------


def limits(scale, power=1.0, order=1, seeds=SEEDS):
    config = at_scale(ResnetConvergence, scale, seeds=tuple(seeds))
    depths = np.array(config.depths)
    gap = (1 / depths - 1 / config.reference) ** power
    t = np.arange(config.iterations)[::order, None]
    arrays = {
        f"{q}{ending}": scale_ * (t + 1.0) * gap
        for q, scale_ in (("dV", 1.0), ("dW", 0.1), ("sup", 2.0))
        for ending in ("", "_paper")
    }
    records = [
        Made(seed, {"depths": depths, **{k: (1 + 0.01 * seed) * v for k, v in arrays.items()}}) for seed in seeds
    ]
    return [(config, records)]


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_distance_to_the_limit(scale):
    assert set(verdicts("fig1_right", limits(scale), scale).values()) == {REPRODUCED}
    slower = verdicts("fig1_right", limits(scale, power=0.9), scale)
    assert {slower[name] for name in ("dV", "dW", "sup", "alignment")} == {NOT_REPRODUCED}
    assert slower["monotone"] == slower["time"] == REPRODUCED
    assert verdicts("fig1_right", limits(scale, order=-1), scale)["time"] == NOT_REPRODUCED
    assert verdicts("fig1_right", limits(scale, power=-1), scale)["monotone"] == NOT_REPRODUCED


def test_depths_in_order_at_one_seed_are_no_law():
    assert set(verdicts("fig1_right", limits("small", seeds=[0]), "small").values()) == {UNDECIDED}


# -- figure 2 ---------------------------------------------------------------------------------------------------------


def long(stretch):
    """Losses that cross 1e-1, 1e-4 and 1e-7 at `stretch` times the published iterations."""
    config = at_scale(ResnetLongTime, "paper", seeds=tuple(SEEDS))
    knots = [0, *(stretch * np.array([3.4e3, 3.0e4, 7.5e4])), 1e5]
    loss = np.exp(np.interp(np.arange(80_000), knots, np.log([2.0, 1e-1, 1e-4, 1e-7, 1e-9])))
    k = np.arange(64) / 64
    rec = np.tile(np.cos(6 * k)[None, :, None, None], (20, 1, 4, 4))
    arrays = {"loss": loss, "V_rec": rec, "W_rec": rec, "inc_max": np.full((20, 2), 66 / 64)}
    return [(config, [Made(seed, arrays) for seed in SEEDS])]


@pytest.mark.parametrize(
    ("stretch", "first", "last"),
    [(1.0, REPRODUCED, REPRODUCED), (1.018, REPRODUCED, REPRODUCED), (1.03, NOT_REPRODUCED, REPRODUCED),
     (0.955, NOT_REPRODUCED, NOT_REPRODUCED), (1.05, NOT_REPRODUCED, NOT_REPRODUCED)],
)  # fmt: skip
def test_crossings_within_two_and_four_per_cent(stretch, first, last):
    found = verdicts("fig2", long(stretch))
    assert found["crossing_1e-01"] == found["crossing_1e-04"] == first and found["crossing_1e-07"] == last
    assert found["decreasing"] == found["frozen"] == found["smooth"] == found["largest_step"] == REPRODUCED


def test_a_level_that_is_never_reached_is_not_reproduced():
    found = verdicts("fig2", long(2.0))
    assert found["crossing_1e-04"] == found["crossing_1e-07"] == NOT_REPRODUCED


# -- figure 3, table 1 ------------------------------------------------------------------------------------------------


def cifar(activations, scale="paper", accuracy=None, **smoothness):
    """Runs as Table 1 has them, but for what a test says."""
    from reprod.analysis.residual_limit.cifar import TABLE_1

    found = []
    for activation in activations:
        for init in ("tied", "iid"):
            config = at_scale(CifarResnet, scale, activation=activation, init=init, seeds=tuple(SEEDS))
            train, test, smooth = TABLE_1[activation, init]
            kind = {"ratio": 0.1, "autocorrelation": 0.9} if smooth else {"ratio": 1.4, "autocorrelation": 0.0}
            kind |= {"increment": 0.3 if init == "tied" else 3.0, "moved": 1.0} | smoothness
            records = []
            for seed in SEEDS:
                train_, test_ = (accuracy or value + 0.001 * (seed - 2) for value in (train, test))
                epochs = pd.DataFrame([{"epoch": 180, "train_accuracy": train_, "test_accuracy": test_}])
                rows = [{"epoch": 180, "convolution": i, **kind} for i in (1, 2)]
                records.append(Made(seed, tables={"epochs": epochs, "smoothness": pd.DataFrame(rows)}))
            found.append((config, records))
    return found


ALL = ("identity", "gelu", "relu")


def test_the_published_table_is_reproduced():
    assert set(verdicts("table1", cifar(ALL)).values()) == {REPRODUCED}
    assert set(verdicts("fig3", cifar(("gelu",))).values()) == {REPRODUCED}
    assert set(verdicts("additional_plot", cifar(("gelu",))).values()) == {REPRODUCED}


def test_accuracies_of_chance_are_not():
    found = verdicts("table1", cifar(ALL, accuracy=0.1))
    accuracies = [name for name in found if not name.endswith("smooth") and name != "relu"]
    assert len(accuracies) == 14 and {found[name] for name in accuracies} == {NOT_REPRODUCED}


@pytest.mark.parametrize("scale", ["paper", "medium"])
def test_layers_that_never_left_their_start_are_no_evidence(scale):
    found = verdicts("fig3", cifar(("gelu",), scale, moved=0.09), scale)
    assert set(found.values()) == {NOT_REPRODUCED}


def test_white_noise_after_a_tied_start_is_not_smooth():
    assert verdicts("fig3", cifar(("gelu",), ratio=1.41, autocorrelation=0.0))["tied"] == NOT_REPRODUCED
    assert verdicts("additional_plot", cifar(("gelu",), increment=3.0))["ratio"] == NOT_REPRODUCED


def test_what_a_scale_cannot_show():
    assert set(verdicts("table1", cifar(ALL, "small"), "small").values()) == {NOT_COMPARABLE}
    medium = verdicts("table1", cifar(ALL, "medium"), "medium")
    assert {name for name, verdict in medium.items() if verdict != NOT_COMPARABLE} >= {
        f"{activation}_{init}_smooth" for activation, init in (("identity", "tied"), ("gelu", "tied"), ("gelu", "iid"))
    }
