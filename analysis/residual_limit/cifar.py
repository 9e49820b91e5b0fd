"""CIFAR-10: figure 3, table 1, the additional plot of the appendix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.residual_limit.common import PAPER, lost, plt
from reprod.config import Config, at_scale
from reprod.figures.alter import Case, altered
from reprod.figures.claims import All, AtLeast, AtMost, Claim, Equals, our_limit
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import BLUE, ORANGE
from reprod.residual_limit.config import CifarResnet
from reprod.training import stream

SCALES = ("paper", "medium", "small", "smoke")
DECIDES = ("paper", "medium")
ACTIVATIONS = {"identity": "identity", "gelu": "GELU", "relu": "ReLU"}
INITS = {"tied": "tied", "iid": "i.i.d."}
SEEDS = {"paper": (0, 1, 2, 3, 4), "medium": (0, 1, 2, 3, 4), "small": (0,), "smoke": (0,)}
SHORT = (
    "short runs show nothing about accuracy or smoothness: residual gradients carry 1/L, and forgetting the start "
    "takes (1 - momentum)/(learning_rate weight_decay) = 5000 steps"
)
SHORTER = "shorter training of fewer layers has other accuracies, and may not part tied ReLU layers"
SECOND_HAND = "printed (read in a copy of the text only)"
TABLE_1 = {  # activation, start -> train, test accuracy, weights smooth?
    ("identity", "tied"): (0.565, 0.598, True),
    ("identity", "iid"): (0.561, 0.596, False),
    ("gelu", "tied"): (0.805, 0.799, True),
    ("gelu", "iid"): (0.898, 0.857, False),
    ("relu", "tied"): (0.974, 0.881, False),
    ("relu", "iid"): (0.984, 0.884, False),
}

# Limits of smoothness, between white noise (ratio sqrt 2, autocorrelation 0) and equal layers (0, 1)
SMOOTH_RATIO, ROUGH_RATIO = 0.5, 1.0
SMOOTH_LAG, ROUGH_LAG = 0.5, 0.25
MOVED = 0.5  # of their norm: how far weights have to be from their start before they say anything about training


def cells(scale: str, activations: tuple[str, ...]) -> list[Config]:
    chosen = [(activation, init) for activation in activations for init in INITS]
    return [at_scale(CifarResnet, scale, activation=a, init=i, seeds=SEEDS[scale]) for a, i in chosen]


def cell_table(runs: Runs) -> pd.DataFrame:
    """One row per run, at the end: accuracies (fractions), smoothness, and how far the weights moved."""
    rows = []
    for config, records in runs:
        for r in records:
            epochs, smooth = r.table("epochs"), r.table("smoothness")
            last = smooth[smooth.epoch == smooth.epoch.max()].set_index("convolution")
            rows.append({
                "activation": config.activation, "init": config.init, "seed": r.seed,
                "train": epochs.train_accuracy.iloc[-1], "test": epochs.test_accuracy.iloc[-1],
                "test_max": epochs.test_accuracy.max(),
                **{f"{name}_{i}": last.loc[i, name] for i in (1, 2)
                   for name in ("increment", "ratio", "autocorrelation", "moved")},
                "epochs": config.epochs, "run_id": r.id,
            })  # fmt: skip
    return pd.DataFrame(rows)


def remark(runs: Runs) -> str:
    config = next(iter(runs))[0]
    what = (
        f"depth {config.depth}, {config.epochs} epochs, {config.n_train or 'all'} training images of {config.dataset}"
    )
    notes = {"paper": "", "medium": f"; weight decay {config.weight_decay}, ten times the paper's"}
    return what + notes.get(runs.scale, f"; {SHORT}")


def percent(part: float) -> str:
    return f"{100 * part:.2g} %"


# -- claims -----------------------------------------------------------------------------------------------------------

Change = Callable[[pd.DataFrame, Case], pd.DataFrame]


def end(table: str, **columns: Callable[[Any], float]) -> Callable[[Runs], Runs]:
    """Five seeds whose last epoch has other values in a table: each column's function gets the configuration."""

    def change(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
        last = frame.epoch == frame.epoch.max()
        for column, value in columns.items():
            frame.loc[last, column] = value(case.config) + 1e-3 * (case.index - 2)
        return frame

    return lambda runs: altered(runs, seeds=5, tables={table: change})


def _smooth(init: str, **other: float) -> Callable[[Runs], Runs]:
    values = {"ratio": 0.1, "autocorrelation": 0.9, "moved": 1.0} if init == "tied" else {
        "ratio": math.sqrt(2), "autocorrelation": 0.0, "moved": 1.0}  # fmt: skip
    return end("smoothness", **{name: lambda _, v=v: v for name, v in {**values, **other}.items()})


def smoothness(runs: Runs, activation: str, init: str, smooth: bool, name: str, source: str) -> Claim:
    """Whether the weights of a cell are a smooth function of the layer, or not. A seed counts only where they left
    their start: before, the ratio and the autocorrelation are those of the start."""
    chosen = runs.where(activation=activation, init=init)
    ((config, records),) = chosen
    table = cell_table(chosen)
    scales, elsewhere = (("paper",), SHORTER) if (activation, init) == ("relu", "tied") else (DECIDES, SHORT)
    both = {q: table[[f"{q}_1", f"{q}_2"]].mean(axis=1) for q in ("ratio", "autocorrelation", "moved")}
    left = both["moved"] >= MOVED
    common: dict[str, Any] = {
        "source": source, "basis": our_limit("by eye in the paper; half way between white noise and a smooth curve"),
        "published": "smooth" if smooth else "not smooth", "run_ids": chosen.ids, "scales": scales,
        "elsewhere": elsewhere,
        "unsuccessful": lost(config, records) + int((~left).sum()), "fmt": ".2f",
        "criterion": f"weights that left their start by {100 * MOVED:.0f} % of their norm",
    }  # fmt: skip
    ratio, lag = both["ratio"][left].tolist(), both["autocorrelation"][left].tolist()
    parts: list[Claim] = (
        [
            AtMost(name="ratio", statement="increment over norm", samples=ratio, bound=SMOOTH_RATIO, **common),
            AtLeast(name="autocorrelation", statement="over layers", samples=lag, bound=SMOOTH_LAG, **common),
        ]
        if smooth
        else [
            AtLeast(name="ratio", statement="increment over norm", samples=ratio, bound=ROUGH_RATIO, **common),
            AtMost(name="autocorrelation", statement="over layers", samples=lag, bound=ROUGH_LAG, **common),
        ]
    )
    what = "smooth in the layer" if smooth else "not smooth in the layer"
    yes, no = ("tied", "iid") if smooth else ("iid", "tied")
    return All(
        name=name, source=source, basis=common["basis"], published=common["published"], parts=parts,
        statement=f"weights of the {ACTIVATIONS[activation]} net are {what} after a start with {INITS[init]} layers",
        scales=scales, elsewhere=elsewhere, run_ids=chosen.ids, refuted_by=_smooth(no), confirmed_by=_smooth(yes),
    )  # fmt: skip


# -- figure 3 ---------------------------------------------------------------------------------------------------------


@figure("fig3", source=f"{PAPER}, figure 3", experiments=("cifar_resnet",))
class SmoothOrNot:
    """One entry of each of the two convolutions against the layer k after training on CIFAR-10, layers equal (left) or
    independent (right) at the start; GELU, batch normalisation."""

    scales = SCALES

    def runs(self, scale: str) -> list[Config]:
        return cells(scale, ("gelu",))

    def draw(self, runs: Runs) -> Drawing:
        fig, axes = plt().subplots(1, 2, figsize=(7.0, 3.0))
        teal = plt().matplotlib.colormaps["viridis"](0.6)
        rows = []
        for ax, (config, records) in zip(axes, runs, strict=True):
            record = records[0]
            entry = int(stream(0, "figure/entry").integers(np.array(record.array("conv1")).shape[1]))
            for i, colour in ((1, teal), (2, "#9467BD")):
                values = np.array(record.array(f"conv{i}"))[:, entry]
                ax.plot(values, color=colour, label=f"$i={i}$")
                rows += [
                    {"init": config.init, "i": i, "entry": entry, "k": k, "value": v} for k, v in enumerate(values)
                ]
            smooth = record.table("smoothness")
            ratio = ", ".join(f"{v:.2g}" for v in smooth.ratio[smooth.epoch == smooth.epoch.max()])
            ax.set_title(f"GELU, {INITS[config.init]} start: ratio {ratio}")
            ax.set(xlabel="layer $k$", ylabel=r"a coeff. of conv$_{i,k}^L$")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        remarks = f"{remark(runs)}; entry {rows[0]['entry']}; ratio: mean_k |c_(k+1) - c_k| / mean_k |c_k|"
        return Drawing(fig, pd.DataFrame(rows), remarks)

    def claims(self, runs: Runs) -> list[Claim]:
        source = f"{PAPER}, figure 3"
        return [smoothness(runs, "gelu", init, TABLE_1["gelu", init][2], init, source) for init in INITS]


# -- table 1 ----------------------------------------------------------------------------------------------------------


@figure("table1", source=f"{PAPER}, table 1", experiments=("cifar_resnet",))
class AccuracyTable:
    """Accuracy on CIFAR-10 after the last epoch, median and quartiles over the runs, and the smoothness of the first
    convolution: ratio of mean increment to mean norm, and lag-1 autocorrelation over the layers."""

    scales = SCALES

    def runs(self, scale: str) -> list[Config]:
        return cells(scale, tuple(ACTIVATIONS))

    def draw(self, runs: Runs) -> Drawing:
        table = quartiles(cell_table(runs))
        header = [r"$\sigma$", "start", "train %", "test %", "paper: train, test %", "ratio", "autocorr.", "moved", "n"]
        rows = []
        for row in table.to_dict("records"):
            activation, init = str(row["activation"]), str(row["init"])
            train, test, smooth = TABLE_1[activation, init]
            published = f"{100 * train:.1f}, {100 * test:.1f}, {'smooth' if smooth else 'not smooth'}"
            rows.append([
                ACTIVATIONS[activation], INITS[init], spread(row, "train"), spread(row, "test"), published,
                f"{row['ratio']:.2g}", f"{row['autocorrelation']:.2f}", percent(row["moved"]), str(row["n"]),
            ])  # fmt: skip
        fig, ax = plt().subplots(figsize=(8.2, 0.32 * (len(rows) + 1.5)))
        ax.axis("off")
        widths = [0.08, 0.07, 0.15, 0.15, 0.23, 0.09, 0.09, 0.08, 0.04]
        drawn = ax.table(rows, colLabels=header, loc="center", cellLoc="center", colWidths=widths, edges="horizontal")
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
        drawn.scale(1, 1.35)
        return Drawing(fig, table, remark(runs))

    def claims(self, runs: Runs) -> list[Claim]:
        table, source = cell_table(runs), f"{PAPER}, table 1"
        accuracy = {cell: part.set_index("seed") for cell, part in table.groupby(["activation", "init"])}
        missing = {(c.activation, c.init): lost(c, records) for c, records in runs}
        found: list[Claim] = []
        for (activation, init), (train, test, smooth) in TABLE_1.items():
            cell = runs.where(activation=activation, init=init)
            words = f"{ACTIVATIONS[activation]}, {INITS[init]} start"
            for split, published in (("train", train), ("test", test)):
                column = f"{split}_accuracy"
                found.append(
                    Equals(
                        name=f"{activation}_{init}_{split}", statement=f"{split} accuracy, {words}", source=source,
                        published=f"{100 * published:.1f} %", basis=SECOND_HAND, target=published, tolerance=0.015,
                        why="1.5 points: the spread of the one published run around the table is larger than its +-",
                        spread=False, samples=accuracy[activation, init][split].tolist(), factor=100, unit=" %",
                        unsuccessful=missing[activation, init], scales=("paper",), elsewhere=SHORTER,
                        run_ids=cell.ids, refuted_by=end("epochs", **{column: lambda c, p=published: p - 0.1}),
                        confirmed_by=end("epochs", **{column: lambda c, p=published: p}),
                    )
                )  # fmt: skip
            found.append(smoothness(runs, activation, init, smooth, f"{activation}_{init}_smooth", source))
        return [*found, *orders(accuracy, missing, source)]


def orders(accuracy: dict[Any, pd.DataFrame], missing: dict[tuple[str, str], int], source: str) -> list[Claim]:
    """What Table 1 says of its rows beside each other, in differences of test accuracy by seed."""

    def gap(higher: tuple[str, str], lower: tuple[str, str]) -> list[float]:
        return (accuracy[higher].test - accuracy[lower].test).tolist()

    def published(activation: str, init: str) -> float:
        return TABLE_1[activation, init][1]

    def table(swap: dict[tuple[str, str], tuple[str, str]]) -> Callable[[Runs], Runs]:
        """Table 1 as printed, but for rows that show another's accuracy."""

        def shown(c: Any) -> float:
            return published(*swap.get((c.activation, c.init), (c.activation, c.init)))

        return end("epochs", test_accuracy=shown)

    common: dict[str, Any] = {
        "source": source, "basis": SECOND_HAND, "unsuccessful": sum(missing.values()), "factor": 100, "unit": " points",
    }  # fmt: skip
    tied, iid = ("gelu", "tied"), ("gelu", "iid")
    return [
        AtLeast(
            name="nonlinear", statement="GELU tied is far better than identity tied (test)", published="20.1 points",
            **common, samples=gap(tied, ("identity", "tied")), bound=0.10, scales=("paper",), elsewhere=SHORTER,
            refuted_by=table({tied: ("identity", "iid")}), confirmed_by=table({}),
        ),
        AtLeast(
            name="order", statement="GELU i.i.d. is better than GELU tied (test)", published="5.8 points", **common,
            samples=gap(iid, tied), bound=0.01, scales=("paper",), elsewhere=SHORTER,
            refuted_by=table({iid: tied}), confirmed_by=table({}),
        ),
        Equals(
            name="relu", statement="ReLU: both starts are alike (test)", published="0.3 points", **common,
            samples=gap(("relu", "iid"), ("relu", "tied")), target=0.0, tolerance=0.01, spread=False,
            why="a point, beside the six between the starts of GELU", scales=("paper",), elsewhere=SHORTER,
            refuted_by=table({("relu", "tied"): tied}), confirmed_by=table({}),
        ),
    ]  # fmt: skip


def quartiles(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for activation in ACTIVATIONS:
        for init in INITS:
            part = table[(table.activation == activation) & (table.init == init)]
            row: dict[str, Any] = {"activation": activation, "init": init, "n": len(part)}
            for split in ("train", "test"):
                q1, median, q3 = part[split].quantile([0.25, 0.5, 0.75])
                row |= {split: median, f"{split}_q1": q1, f"{split}_q3": q3}
            row |= {"test_max": part.test_max.median(), "ratio": part.ratio_1.median()}
            row |= {"autocorrelation": part.autocorrelation_1.median(), "moved": part.moved_1.median()}
            rows.append(row)
    return pd.DataFrame(rows)


def spread(row: Any, split: str) -> str:
    median, q1, q3 = (100 * float(row[name]) for name in (split, f"{split}_q1", f"{split}_q3"))
    return f"{median:.1f} [{q1:.1f}, {q3:.1f}]" if row["n"] > 1 else f"{median:.1f}"


# -- additional plot --------------------------------------------------------------------------------------------------


@figure("additional_plot", source=f"{PAPER}, appendix, additional plot", experiments=("cifar_resnet",))
class Increments:
    """Mean distance of neighbouring layers' convolutions after training on CIFAR-10 (GELU), for equal and independent
    layers at the start; dots are runs. The dashed line is the distance of independent layers at the start."""

    scales = SCALES

    def runs(self, scale: str) -> list[Config]:
        return cells(scale, ("gelu",))

    def draw(self, runs: Runs) -> Drawing:
        table = cell_table(runs)
        fig, ax = plt().subplots(figsize=(3.6, 2.8))
        for place, (init, colour) in enumerate((("tied", BLUE), ("iid", ORANGE))):
            part = table[table.init == init]
            for i in (1, 2):
                x, values = 3 * (i - 1) + place, part[f"increment_{i}"]
                ax.bar(x, values.mean(), color=colour, alpha=0.45, label=f"{INITS[init]} start" if i == 1 else None)
                ax.plot([x] * len(values), values, "o", color=colour, ms=3.5)
        channels = next(iter(runs))[0].channels
        start = math.sqrt(2 * 9 * channels**2) / (math.sqrt(9 * channels) * math.sqrt(3))
        ax.axhline(start, ls="--", color="black", lw=0.9, label="independent, at the start")
        ax.set(yscale="log", ylabel=r"mean$_k\ \|\mathrm{conv}_{i,k+1}-\mathrm{conv}_{i,k}\|_F$")
        ax.set_ylim(table[["increment_1", "increment_2"]].to_numpy().min() / 3, 3 * start)
        ax.set_xticks([0.5, 3.5], ["$i=1$", "$i=2$"])
        ax.grid(axis="x", visible=False)
        fig.legend(loc="outside upper center", ncols=3, columnspacing=1.0, handlelength=1.4)
        return Drawing(fig, table, remark(runs))

    def claims(self, runs: Runs) -> list[Claim]:
        table = cell_table(runs)
        tied, iid = (table[table.init == init].set_index("seed") for init in INITS)
        common: dict[str, Any] = {
            "source": f"{PAPER}, appendix, additional plot", "published": "about 10", "scales": ("paper",),
            "basis": our_limit("the text says an order of magnitude: 5 to 30"),
            "elsewhere": "the ratio grows with depth",
        }  # fmt: skip
        missing = sum(lost(config, records) for config, records in runs)

        def apart(factor: float) -> Callable[[Runs], Runs]:
            return end("smoothness", increment=lambda c: factor if c.init == "iid" else 1.0)

        parts = [
            kind(
                name=f"convolution {i} {words}", statement="increments after an i.i.d. start over those after a tied",
                samples=(iid[f"increment_{i}"] / tied[f"increment_{i}"]).tolist(), bound=bound, unsuccessful=missing,
                **common,
            )
            for i in (1, 2)
            for kind, words, bound in ((AtLeast, "at least 5", 5.0), (AtMost, "at most 30", 30.0))
        ]  # fmt: skip
        return [
            All(
                name="ratio", statement="neighbours after a tied start are an order of magnitude closer", **common,
                parts=parts, refuted_by=apart(2.0), confirmed_by=apart(10.0),
            )
        ]  # fmt: skip
