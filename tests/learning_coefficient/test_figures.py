"""Figures without a store: what they ask for, what theory alone draws, how plateaus are told apart."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from reprod.analysis.learning_coefficient import staircase
from reprod.config import at_scale
from reprod.figures.claims import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, UNDECIDED
from reprod.figures.figure import Runs
from reprod.figures.figure import figures as registered
from reprod.learning_coefficient.config import DlnLlc, DlnSaddleDynamics, RescalingInvariance

ALL = {f.short: f for f in registered("learning_coefficient")}
THEORY = [name for name, f in ALL.items() if not f.runs("small")]


def test_every_figure_of_the_specification_is_there():
    numbers = {name.split("_")[0] for name in ALL}
    assert {f"fig{i}" for i in range(1, 19)} <= numbers


@pytest.mark.parametrize("scale", ["paper", "medium", "small", "smoke"])
@pytest.mark.parametrize("name", ALL)
def test_runs_are_valid_and_distinct(name, scale):
    if scale not in ALL[name].scales:
        pytest.skip(f"{name} has no {scale}")
    configs = ALL[name].runs(scale)
    digests = [config.for_seed(seed).digest() for config in configs for seed in config.seeds]
    assert len(set(digests)) == len(digests)
    assert all(config.scale == scale for config in configs)
    assert {config.experiment for config in configs} <= set(ALL[name].experiments)


def test_paper_scale_asks_for_the_published_runs():
    assert sum(len(c.seeds) for c in ALL["fig1"].runs("paper")) == 600
    assert sum(len(c.seeds) for c in ALL["fig13"].runs("paper")) == 6
    assert sum(len(c.seeds) for c in ALL["fig15"].runs("paper") if c.truth_seed == 0) == 70
    assert len(ALL["fig18_momentum"].runs("paper")) == 10
    assert {c.momentum for c in ALL["fig18_learning_rate"].runs("paper")} == {0.0, 0.9}


@pytest.mark.parametrize("name", THEORY)
def test_theory_draws_and_holds(name):
    empty = Runs([], "small")
    drawing = ALL[name].what.draw(empty)
    assert len(drawing.table)
    assert drawing.figure.axes
    assert all(finding.verdict == REPRODUCED for finding in ALL[name].findings(empty))
    matplotlib.pyplot.close(drawing.figure)


def test_plateaus_are_told_from_the_way_between():
    rest = [1100.0] * 6 + [900.0, 700.0] + [600.0] * 6 + [400.0] + [280.0] * 6 + [1.0, 0.001, 1e-6]
    learned = staircase._learned(np.array(rest), 5)
    assert learned[2] == 0
    assert learned[11] == 1
    assert learned[18] == 2
    assert learned[7] == -1
    assert learned[-1] == 5


def test_running_mean_keeps_length_and_level():
    values = np.arange(40.0)
    smooth = staircase._running_mean(values)
    assert len(smooth) == 40
    assert smooth[20] == pytest.approx(values[15:25].mean())
    assert staircase._running_mean(np.ones(5)).tolist() == [1.0] * 5


def test_closed_form_plateaus_of_the_published_runs():
    config = ALL["fig13"].runs("paper")[0]
    assert staircase._plateau_values(config) == pytest.approx([0, 4.84, 8.75, 11.63, 13.44, 14.27], abs=0.006)


# -- claims on made-up records -----------------------------------------------------------------------------------------


class Made:
    """A record as figures read it."""

    def __init__(self, config, seed, metrics=None, tables=None):
        self.config, self.seed, self.id, self.name = config, seed, f"{config.digest()}{seed}", config.title()
        self.metrics, self.tables = metrics or {}, tables or {}

    def table(self, name):
        return self.tables[name]


def verdicts(name, runs):
    return {finding.name: finding.verdict for finding in ALL[name].findings(runs)}


def network(exact, **metrics):
    return {"llc/exact": exact, "llc/multiplicity": 1, "network/parameters": 100, "network/layers": 2,
            "network/rank": 3, "llc/diverged_chains": 0, **metrics}  # fmt: skip


def trained_at(ratios):
    config = at_scale(DlnLlc, "small", seeds=tuple(range(len(ratios))))
    metrics = [network(100.0, **({} if r is None else {"trained/estimate": 100.0 * r})) for r in ratios]
    return Runs([(config, [Made(config, i, m) for i, m in enumerate(metrics)])], "small")


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([0.97, 1.0, 1.03, 1.01] * 3, REPRODUCED),
        ([1.3, 1.35, 1.4, 1.45] * 3, NOT_REPRODUCED),  # inside 0.5 to 1.5, far from tracking
        ([1.0, 1.01] + [-3.0, -2.0] * 5, NOT_REPRODUCED),  # negative estimates are estimates, too
        ([1.0] * 11 + [None], NOT_REPRODUCED),  # one of twelve without any: the paper has one of a hundred
        ([1.0], UNDECIDED),
    ],
)
def test_every_finite_estimate_at_a_trained_parameter_counts(ratios, verdict):
    assert verdicts("fig3", trained_at(ratios)) == {"estimate near exact, class 1K": verdict}


def sweep(name, finals, scale="paper", accuracy=1.0):
    """Runs of the first row of a sweep of F18 whose last estimates are these: {value: one per seed}."""
    figure, found = ALL[name].what, []
    for config in ALL[name].runs(scale):
        value = getattr(config, figure.parameter)
        if value not in finals or (len(figure.rows) > 1 and config.momentum):
            continue
        records = []
        for seed, llc in zip(config.seeds, finals[value], strict=True):
            curve = {"iteration": [1, 9], "llc": [9000.0, llc], "train_accuracy": [0.1, accuracy]}
            records.append(Made(config, seed, tables={"curve": pd.DataFrame(curve)}))
        found.append((config, records))
    return Runs(found, scale)


def around(*published):
    """Five seeds within 2 % of the published number."""
    return [[number * (1 + 0.01 * (seed - 2)) for seed in range(5)] for number in published]


L2 = (0.0, 0.01, 0.025, 0.05, 0.075, 0.1)


@pytest.mark.parametrize(
    ("name", "values", "published"),
    [
        ("fig18_l2", L2, (6650, 8300, 7000, 4900, 3500, 2550)),
        ("fig18_l2_no_momentum", L2, (6800, 7800, 8500, 6400, 5300, 4400)),
        ("fig18_learning_rate", (0.005, 0.01, 0.05, 0.1, 0.2), (7900, 7800, 6650, 5350, 3100)),
        ("fig18_batch_size", (16, 32, 64, 128, 256, 512, 1024), (1600, 3500, 5200, 6700, 7400, 7780, 7900)),
    ],
)
def test_the_papers_own_numbers_are_reproduced_and_their_reverse_is_not(name, values, published):
    right = sweep(name, dict(zip(values, around(*published), strict=True)))
    assert set(verdicts(name, right).values()) == {REPRODUCED}
    wrong = sweep(name, dict(zip(values, around(*reversed(published)), strict=True)))
    assert NOT_REPRODUCED in verdicts(name, wrong).values()
    assert REPRODUCED not in verdicts(name, wrong).values() or name.startswith("fig18_l2")


def test_an_invalid_estimate_is_no_lowest_estimate():
    momenta = [i / 10 for i in range(10)]
    finals = dict(zip(momenta, around(*range(7900, 6900, -100)), strict=True))
    (name,) = verdicts("fig18_momentum", sweep("fig18_momentum", finals))
    assert verdicts("fig18_momentum", sweep("fig18_momentum", finals))[name] == REPRODUCED
    finals[0.9] = [-7.0, *finals[0.9][1:]]
    (found,) = ALL["fig18_momentum"].findings(sweep("fig18_momentum", finals))
    assert found.verdict == NOT_REPRODUCED
    assert "1 of " in found.reason


def test_networks_that_do_not_fit_are_no_evidence_at_medium_and_small_decides_nothing():
    finals = {0.0: [470, 480, 490], 0.3: [380, 390, 400], 0.6: [300, 310, 320], 0.9: [10, 20, 30]}
    (fitted,) = verdicts("fig18_momentum", sweep("fig18_momentum", finals, "medium")).values()
    assert fitted == REPRODUCED
    (unfitted,) = verdicts("fig18_momentum", sweep("fig18_momentum", finals, "medium", accuracy=0.5)).values()
    assert unfitted == NOT_REPRODUCED
    one = {value: numbers[:1] for value, numbers in finals.items()}
    (small,) = verdicts("fig18_momentum", sweep("fig18_momentum", one, "small")).values()
    assert small == NOT_COMPARABLE


@pytest.mark.parametrize(
    ("dependence", "verdict"),
    [(lambda e: 0.0, REPRODUCED), (lambda e: 0.02 * e, NOT_REPRODUCED), (lambda e: 0.04 * abs(e), NOT_REPRODUCED)],
)
def test_a_dependence_on_the_factor_is_seen_also_where_it_is_the_same_to_both_sides(dependence, verdict):
    config = at_scale(RescalingInvariance, "small", seeds=(0, 1, 2))
    rng = np.random.default_rng(0)
    records = []
    for seed in config.seeds:
        rows = [(e, c) for e in config.exponents for c in range(config.chains)]
        table = pd.DataFrame(rows, columns=["exponent", "chain"])
        table["llc"] = [(160 + 4 * seed) * (1 + dependence(e) + 0.02 * rng.standard_normal()) for e in table.exponent]
        records.append(Made(config, seed, {"same_noise/relative_difference": 1e-7}, {"estimates": table}))
    assert verdicts("fig14", Runs([(config, records)], "small"))["rescaling invariance, 10-20-10"] == verdict


def test_an_estimate_that_follows_the_theory_climbs_no_staircase():
    config = at_scale(DlnSaddleDynamics, "paper", seeds=(0, 42))
    losses = np.repeat([1100.0, 600.0, 280.0, 100.0, 20.0, 1e-9], 8)
    curve = pd.DataFrame({"iteration": np.arange(48), "train_loss": losses, "llc": 12.5})
    flat = [Made(config, s, tables={"curve": curve.assign(llc=12.5 + 0.001 * s)}) for s in config.seeds]
    found = verdicts("fig13", Runs([(config, flat)], "paper"))
    assert set(found.values()) == {NOT_REPRODUCED}
    levels = np.repeat(staircase._plateau_values(config), 8)
    right = [Made(config, s, tables={"curve": curve.assign(llc=levels + 0.001 * s)}) for s in config.seeds]
    found = verdicts("fig13", Runs([(config, right)] * 3, "paper"))
    assert set(found.values()) == {REPRODUCED}
