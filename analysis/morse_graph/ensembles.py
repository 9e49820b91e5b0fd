"""Figures 2, 4, S.4, S.5 and S.9: accuracy, entropy and spread of the ensembles, as violins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.analysis.morse_graph.published import PUBLISHED, SWEEPS, TITLES
from reprod.analysis.morse_graph.runs import PAPER, SEEDS, of_training, training
from reprod.analysis.morse_graph.sweeps import sweep_claims, two_modes, values
from reprod.config import Config
from reprod.figures.claims import Claim
from reprod.figures.figure import Drawing, Runs, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


COLOURS = ("indianred", "teal", "mediumslateblue", "dimgray")  # the paper's


@dataclass(frozen=True)
class Family:
    """One family of violins: a statistic of the trainings, its axis, and the published number beside it."""

    statistic: str
    label: str
    limits: dict[str, tuple[float, float]]
    published: str = ""


ACCURACY = Family(
    "accuracy_swapped", "balanced accuracy (as published)", {"iris": (-0.05, 1.05), "mnist": (-0.05, 1.05)}, "median"
)
ENTROPY = Family(
    "entropy", "entropy of the mean prediction", {"iris": (-0.05, 1.15), "mnist": (-0.05, 1.05)}, "entropy"
)
SPREAD = Family("spread", "std of final weights", {"iris": (0.0, 2.0), "mnist": (-0.25, 1.75)}, "spread")


def sweep_runs(dataset: str, scale: str) -> list[Config]:
    names = dict.fromkeys(name for sweep in SWEEPS[dataset].values() for name in sweep.values())
    return [training(name, scale) for name in names]


def draw_violins(runs: Runs, rows: Sequence[tuple[str, Family]]) -> Drawing:
    import matplotlib.pyplot as plt

    columns = max(len(SWEEPS[dataset]) for dataset, _ in rows)
    fig, axes = plt.subplots(len(rows), columns, figsize=(2.5 * columns, 2.9 * len(rows)), squeeze=False)
    table = []
    for line, (dataset, family) in zip(axes, rows, strict=True):
        for ax, (sweep, names) in zip(line, SWEEPS[dataset].items(), strict=False):
            published = PUBLISHED[dataset, sweep].get(family.published, ())
            for i, (value, name) in enumerate(names.items()):
                records = of_training(runs, name)
                per_seed = [values(record, family.statistic) for record in records]
                violin(ax, i, np.concatenate(per_seed), COLOURS[i])
                accuracy = [float(values(record, "accuracy_swapped").mean()) for record in records]
                ax.bar(0, 0, color=COLOURS[i], label=f"{np.mean(accuracy):.2f}")
                shown = float(published[i]) if published else np.nan
                if published:
                    ax.plot(i + 0.33, shown, "D", color="white", mec="black", ms=4, mew=0.8, zorder=5)
                table += [
                    {
                        "data": dataset, "sweep": sweep, "value": value, "seed": record.seed,
                        "statistic": family.statistic, "median": float(np.median(v)), "mean": float(v.mean()),
                        "mean_accuracy_swapped": a, "mean_accuracy": record.metrics["test/accuracy"],
                        "published_median": shown,
                    }
                    for record, v, a in zip(records, per_seed, accuracy, strict=True)
                ]  # fmt: skip
            ax.set_xticks(range(len(names)), [str(value) for value in names])
            ax.set(ylim=family.limits[dataset], xlabel=sweep, title=f"{TITLES[dataset]}: {sweep}")
            ax.legend(
                title="mean balanced accuracy", ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.2),
                handlelength=0.7, handletextpad=0.3, columnspacing=0.8, title_fontsize=7.5,
            )  # fmt: skip
        line[0].set_ylabel(family.label)
        for ax in line[len(SWEEPS[dataset]) :]:
            ax.axis("off")
    seeds = len(SEEDS[runs.scale])
    remarks = f"{seeds} ensembles (seeds) pooled in each violin; white diamonds: published medians."
    return Drawing(fig, pd.DataFrame(table), remarks)


def violin(ax: Axes, at: float, points: np.ndarray, colour: str) -> None:
    """A violin with an inner box (quartiles, median, 1.5 interquartile ranges); a thin bar where all are equal."""
    points = points[np.isfinite(points)]
    if not len(points):
        return
    if np.ptp(points) > 1e-9:
        bodies: Any = ax.violinplot(points, positions=[at], widths=0.85, showextrema=False)["bodies"]
        body = bodies[0]
        body.set(facecolor=colour, edgecolor="black", linewidth=0.5, alpha=0.85)
    low, middle, high = np.percentile(points, [25, 50, 75])
    reach = 1.5 * (high - low)
    inside = points[(points >= low - reach) & (points <= high + reach)]
    ax.vlines(at, inside.min(), inside.max(), color="black", lw=0.7)
    ax.vlines(at, low, high, color="black", lw=3.5)
    ax.plot(at, middle, "o", color="white", ms=2.2, zorder=4)


@figure("fig2", source=f"{PAPER}, figure 2 (our assignment)", experiments=("iris_training",))
class IrisAccuracy:
    """Accuracy of a hundred networks on iris, by epochs, batch size, layers and hidden nodes. "Balanced accuracy" is
    the paper's: its arguments are swapped, so that it is the mean over predicted classes of P(true | predicted); the
    correct one is in the table."""

    def runs(self, scale: str) -> list[Config]:
        return sweep_runs("iris", scale)

    def draw(self, runs: Runs) -> Drawing:
        return draw_violins(runs, [("iris", ACCURACY)])

    def claims(self, runs: Runs) -> list[Claim]:
        return [*sweep_claims(runs, "iris", "mean"), *sweep_claims(runs, "iris", "median")]


@figure("fig4", source=f"{PAPER}, figure 4 (our assignment)", experiments=("mnist_training",))
class MnistAccuracy:
    """Accuracy of a hundred convolutional networks on MNIST's zeros and ones, by epochs, batch size and layers;
    balanced accuracy as published (arguments swapped). The authors' test subset is lost: ours is the documented one."""

    def runs(self, scale: str) -> list[Config]:
        return sweep_runs("mnist", scale)

    def draw(self, runs: Runs) -> Drawing:
        return draw_violins(runs, [("mnist", ACCURACY)])

    def claims(self, runs: Runs) -> list[Claim]:
        return [*sweep_claims(runs, "mnist", "mean"), *sweep_claims(runs, "mnist", "median")]


@figure("figS4", source=f"{PAPER}, figure S.4 (our assignment)", experiments=("iris_training",))
class IrisEntropy:
    """Entropy of the mean prediction of a hundred networks on iris, one value for each test flower (at most ln 3)."""

    def runs(self, scale: str) -> list[Config]:
        return sweep_runs("iris", scale)

    def draw(self, runs: Runs) -> Drawing:
        return draw_violins(runs, [("iris", ENTROPY)])

    def claims(self, runs: Runs) -> list[Claim]:
        return [*sweep_claims(runs, "iris", "entropy")]


@figure("figS5", source=f"{PAPER}, figure S.5 (our assignment)", experiments=("mnist_training",))
class MnistEntropy:
    """Entropy of the mean prediction of a hundred networks on MNIST's zeros and ones, one value for each test image
    (at most ln 2)."""

    def runs(self, scale: str) -> list[Config]:
        return sweep_runs("mnist", scale)

    def draw(self, runs: Runs) -> Drawing:
        return draw_violins(runs, [("mnist", ENTROPY)])

    def claims(self, runs: Runs) -> list[Claim]:
        return [*sweep_claims(runs, "mnist", "entropy")]


@figure("figS9", source=f"{PAPER}, figure S.9 (our assignment)", experiments=("iris_training", "mnist_training"))
class WeightSpread:
    """Standard deviation over networks of each final kernel weight. Weights that start in U(-2, 2) keep a deviation
    near 1.1; those with Glorot's initialisation in the deeper MNIST networks form a second mode near 0.22."""

    def runs(self, scale: str) -> list[Config]:
        return sweep_runs("mnist", scale) + sweep_runs("iris", scale)

    def draw(self, runs: Runs) -> Drawing:
        return draw_violins(runs, [("mnist", SPREAD), ("iris", SPREAD)])

    def claims(self, runs: Runs) -> list[Claim]:
        return [*sweep_claims(runs, "mnist", "spread"), two_modes(runs)]
