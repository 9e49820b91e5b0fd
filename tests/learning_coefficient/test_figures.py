"""Figures without a store: what they ask for, what theory alone draws, how plateaus are told apart."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from reprod.analysis.learning_coefficient import staircase
from reprod.figures.figure import REPRODUCED, Runs
from reprod.figures.figure import figures as registered

ALL = {f.short: f for f in registered("learning_coefficient")}
THEORY = [name for name, f in ALL.items() if not f.runs("small")]


def test_every_figure_of_the_specification_is_there():
    numbers = {name.split("_")[0] for name in ALL}
    assert {f"fig{i}" for i in range(1, 19)} <= numbers


@pytest.mark.parametrize("scale", ["paper", "small", "smoke"])
@pytest.mark.parametrize("name", ALL)
def test_runs_are_valid_and_distinct(name, scale):
    configs = ALL[name].runs(scale)
    digests = [config.for_seed(seed).digest() for config in configs for seed in config.seeds]
    assert len(set(digests)) == len(digests)
    assert all(config.scale == scale for config in configs)
    assert {config.experiment for config in configs} <= set(ALL[name].experiments)


def test_paper_scale_asks_for_the_published_runs():
    assert sum(len(c.seeds) for c in ALL["fig1"].runs("paper")) == 600
    assert sum(len(c.seeds) for c in ALL["fig13"].runs("paper")) == 6
    assert sum(len(c.seeds) for c in ALL["fig15"].runs("paper")) == 70
    assert len(ALL["fig18_momentum"].runs("paper")) == 10
    assert {c.momentum for c in ALL["fig18_learning_rate"].runs("paper")} == {0.0, 0.9}


@pytest.mark.parametrize("name", THEORY)
def test_theory_draws_and_holds(name):
    empty = Runs([], "small")
    drawing = ALL[name].what.draw(empty)
    assert len(drawing.table)
    assert drawing.figure.axes
    assert all(claim.verdict == REPRODUCED for claim in ALL[name].claims(empty))
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
