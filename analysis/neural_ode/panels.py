"""Accuracy by number of steps or by tolerance: the panels of figure 4 and its analogues, and what they claim."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from reprod.analysis.neural_ode.common import (
    NAMES,
    accuracy,
    finest_accuracy,
    scoring,
    successes,
    successful,
    tests,
    x_of,
)
from reprod.analysis.neural_ode.grids import Configs
from reprod.config import Config
from reprod.figures import style
from reprod.figures.claims import AtLeast, AtMost, Claim
from reprod.figures.figure import Drawing, Runs
from reprod.neural_ode.config import ADAPTIVE

MARKERS = {"euler": "o", "midpoint": "x", "rk4": "^", "fehlberg2": "o", "dopri5": "x"}


@dataclass(frozen=True)
class Panel:
    """A title, the runs, and the parameters by which a figure's runs are told apart (none: all of them)."""

    title: str
    configs: Configs
    where: Mapping[str, Any] = field(default_factory=dict)


class AccuracyFigure:
    """One or more accuracy panels, each from the runs of some configurations."""

    panels: Sequence[Panel] = ()
    ylim = (0.0, 1.1)
    seeds = False

    def runs(self, scale: str) -> list[Config]:
        return [config for panel in self.panels for config in panel.configs(scale)]

    def draw(self, runs: Runs) -> Drawing:
        fig, axes = plt.subplots(1, len(self.panels), figsize=(0.6 + 3.5 * len(self.panels), 3.5), squeeze=False)
        tables = []
        for ax, (title, mine) in zip(axes[0], self.by_panel(runs), strict=True):
            tables.append(accuracy_panel(ax, mine, self.seeds).assign(panel=title))
            ax.set(title=title, ylim=self.ylim)
        axes[0, 0].set_ylabel("test accuracy")
        n = sorted({len(successful(runs, records)) for _, records in runs})
        remark = f"means over {'-'.join(map(str, n))} successful seeds{'' if n[0] else '; over all where none is'}"
        return Drawing(fig, pd.concat(tables), remark)

    def by_panel(self, runs: Runs) -> Iterator[tuple[str, Runs]]:
        for panel in self.panels:
            yield panel.title, runs.where(**panel.where)


def shown(runs: Runs, records: Sequence) -> Sequence:
    """A panel shows the means of successful seeds, as the paper does; of all seeds where none is."""
    return successful(runs, records) or records


@dataclass
class Series:
    """Mean accuracies over seeds of one training configuration: its own, and of every test (solver, x)."""

    label: str
    x: float
    own: float
    own_sd: float
    n: int
    points: pd.DataFrame  # solver, x, accuracy, sd


def series(runs: Runs) -> list[Series]:
    found = []
    for config, records in runs:
        good = shown(runs, records)
        table = pd.concat([tests(r) for r in good])
        own = table[table.kind == "as trained"].accuracy
        grid = table[table.kind == "grid"]
        grid = grid.assign(x=[x_of(config, v) for v in grid.value])
        points = grid.groupby(["solver", "factor"], as_index=False).agg(
            x=("x", "mean"), accuracy=("accuracy", "mean"), sd=("accuracy", "std")
        )
        value = config.tol if config.solver in ADAPTIVE else config.step_size
        x = x_of(config, value)
        label = f"{value:.0e}".replace("e-0", "e-") if config.solver in ADAPTIVE else f"1/{round(x)}"
        found.append(Series(label, x, own.mean(), own.std() if len(own) > 1 else math.nan, len(good), points))
    return found


def accuracy_panel(ax: Axes, runs: Runs, seeds: bool = False) -> pd.DataFrame:
    """Dark circles: tested as trained. Light markers: other solvers, steps or tolerances. One colour per training."""
    solver = next(iter(runs))[0].solver
    adaptive = solver in ADAPTIVE
    rows = []
    every = sorted(series(runs), key=lambda s: s.x)
    for entry, color in zip(every, style.shades(len(every)), strict=True):
        for _, point in entry.points.iterrows():
            own = point.solver == solver
            marker = "o" if own else MARKERS[point.solver]
            fill = {"mec": color, "mfc": "none" if marker == "o" else color}
            ax.plot(point.x, point.accuracy, marker, ms=4.5, color=color, alpha=0.6, mew=0.9, **fill)
        ax.plot(entry.x, entry.own, "o", ms=7.5, color=color, zorder=3)
        own_row = {
            "solver": solver, "factor": 1.0, "x": entry.x, "accuracy": entry.own, "sd": entry.own_sd,
            "as_trained": True,
        }  # fmt: skip
        table = pd.concat([pd.DataFrame([own_row]), entry.points.assign(as_trained=False)])
        rows.append(table.assign(trained=entry.label, trained_with=solver, seeds=entry.n))
    if seeds:
        for config, records in runs:
            for record in records:
                own = tests(record).iloc[0]
                ax.plot(x_of(config, own.value), own.accuracy, "_", ms=8, color="black", alpha=0.5)
    ax.set_xscale("log", base=10 if adaptive else 2)
    if adaptive:
        ax.invert_xaxis()
    ax.set_xlabel("tolerance" if adaptive else "number of steps")
    handles = [Line2D([], [], marker="o", ls="", color="black", ms=7, label=f"{NAMES.get(solver, solver)}, as trained")]
    for name in dict.fromkeys(point.solver for entry in every for _, point in entry.points.iterrows()):
        own, words = name == solver, NAMES.get(name, name)
        look: dict[str, Any] = {"marker": "o" if own else MARKERS[name], "mfc": "none" if own else "black"}
        label = f"{words}, other {'tolerances' if adaptive else 'steps'}" if own else words
        handles.append(Line2D([], [], ls="", color="black", ms=4.5, alpha=0.6, label=label, **look))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1 if adaptive else 2)
    return pd.concat(rows)


# -- claims ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What counts as a collapse, what as none, why; and an accuracy that counter-examples start from."""

    drop: float
    agree: float
    why_drop: str
    why_agree: str
    high: float


def slug(*words: str) -> str:
    return re.sub(r"\W+", "-", " ".join(filter(None, words)).strip().lower()).strip("-")


def collapse(runs: Runs, where: str, limits: Limits, title: str = "", **more: Any) -> Claim:
    """Trained with the largest step or tolerance, the accuracy falls under more accurate solvers."""
    config = max((c for c, _ in runs), key=_coarseness)

    def drop(record) -> float:
        return accuracy(record) - finest_accuracy(record)

    return AtLeast(
        name=slug(title, "collapse"),
        statement=f"{f'{title}: ' * bool(title)}trained with {_trained(config)}, accuracy falls by more than "
        f"{limits.drop:g} under the most accurate solver", source=where, published="far below",
        basis=limits.why_drop, bound=limits.drop, **successes(_of(runs, config), drop),
        refuted_by=lambda runs: scoring(runs, limits.high, limits.high - limits.drop / 4),
        confirmed_by=lambda runs: scoring(runs, limits.high, limits.high - 2 * limits.drop), **more,
    )  # fmt: skip


def no_collapse(runs: Runs, where: str, limits: Limits, title: str = "", **more: Any) -> Claim:
    """Trained with the smallest step or tolerance, it stays."""
    config = min((c for c, _ in runs), key=_coarseness)

    def change(record) -> float:
        return abs(accuracy(record) - finest_accuracy(record))

    return AtMost(
        name=slug(title, "no-collapse"),
        statement=f"{f'{title}: ' * bool(title)}trained with {_trained(config)}, accuracy changes by {limits.agree:g} "
        "at most under the most accurate solver", source=where, published="they meet", basis=limits.why_agree,
        bound=limits.agree, **successes(_of(runs, config), change),
        refuted_by=lambda runs: scoring(runs, limits.high, limits.high - 2 * limits.agree),
        confirmed_by=lambda runs: scoring(runs, limits.high, limits.high - limits.agree / 4), **more,
    )  # fmt: skip


def _coarseness(config: Any) -> float:
    return config.tol if config.solver in ADAPTIVE else config.step_size


def _of(runs: Runs, config: Any) -> Runs:
    return Runs([(c, records) for c, records in runs if c is config], runs.scale)


def _trained(config: Any) -> str:
    if config.solver in ADAPTIVE:
        return f"tolerance {config.tol:g}"
    steps = round(1 / config.step_size)
    return f"{steps} step{'s' * (steps > 1)}"
