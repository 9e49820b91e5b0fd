"""Figures 3, 5, S.1 and S.2: order retractions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reprod.analysis.morse_graph.ensembles import violin
from reprod.analysis.morse_graph.picture import (
    Picture,
    compared,
    draw_graph,
    draw_retraction,
    facts,
    pictures,
    side_by_side,
)
from reprod.analysis.morse_graph.runs import PAPER, SEEDS, both_pairings, surrogate, training
from reprod.analysis.morse_graph.structure import (
    CELLS,
    INSIDE,
    LABELS,
    NODES,
    TILE,
    combined,
    numbers,
    predicts,
    printed_value,
    upper_nodes,
)
from reprod.config import Config
from reprod.figures.claims import Claim
from reprod.figures.figure import Drawing, Runs, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@figure("fig3", source=f"{PAPER}, figure 3", experiments=("morse_graph", "iris_training"))
class IrisRetraction:
    """Morse graph and order retraction for iris after 450 epochs, in the two weights of largest spread: rows paired by
    network above, shuffled rows (the published situation) below; dashed: latent deviation 0.5, beyond it the surrogate
    extrapolates. What survives correct pairing is that there is one attractor, and little else. The published one is
    what a nearly constant map leaves: a strip around the mean of the final weights, with upper nodes whose Conley index
    is trivial. With the rows paired the attractor is an orbit of period 2, index (x^2-1, 0, 0), below a saddle that
    flips, and its tile takes most of the box. That orbit is no property of training either: final weights lie outside
    the region of the early ones, where the prior mean 0 of the process throws them back."""

    def runs(self, scale: str) -> list[Config]:
        return both_pairings("iris_epoch_450", scale)

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(2, 2, figsize=(8.0, 6.0), width_ratios=(1, 1.4))
        for line, (title, picture) in zip(axes, side_by_side(runs, 2, 0.46), strict=True):
            draw_graph(line[0], picture)
            draw_retraction(line[1], picture, deviation=True)
            line[0].set_title("Morse graph")
            line[1].set_title(title, fontsize=8.5)
        paired, shuffled = pictures(runs, pairing="by_net"), pictures(runs, pairing="shuffled")
        table = pd.DataFrame([facts(p) for p in (*paired, *shuffled)])
        return Drawing(fig, table, compared(paired, shuffled))

    def claims(self, runs: Runs) -> list[Claim]:
        source = f"{PAPER}, figure 3"
        published = {NODES: 2, CELLS: 345, TILE: 46}
        return [
            *numbers(runs, "Iris, 450 epochs", source, published, ("paper", "small"), ""),
            *(printed_value(runs, label) for label in LABELS),
            *(upper_nodes(runs, "Iris", source, label) for label in LABELS),
        ]


GROUPS = {"all": "All", "inside": "Inside", "outside": "Outside"}
GROUP_COLOURS = {"all": "#fc8d62", "inside": "#8da0cb", "outside": "#a6d854"}  # Set2, entries 1, 2 and 4


def group_violins(ax_entropy: Axes, ax_accuracy: Axes, picture: Picture) -> None:
    record = picture.record
    networks = record.table("networks")
    inside, accuracy = networks["inside"].to_numpy(), networks["accuracy_swapped"].to_numpy()
    members = {"all": np.ones(len(inside), bool), "inside": inside, "outside": ~inside}
    for i, (name, group) in enumerate(members.items()):
        violin(ax_entropy, i, np.asarray(record.array(f"entropy_{name}")), GROUP_COLOURS[name])
        violin(ax_accuracy, i, accuracy[group], GROUP_COLOURS[name])
    ticks = [f"{GROUPS[name]}\nn = {int(group.sum())}" for name, group in members.items()]
    for ax in (ax_entropy, ax_accuracy):
        ax.set_xticks(range(3), ticks)
        ax.set_xlim(-0.6, 2.6)
    ax_entropy.set(ylabel="entropy", ylim=(-0.05, 0.75))
    ax_accuracy.set(ylabel="balanced accuracy", ylim=(-0.05, 1.05))
    p, among = record.metrics["tile/p"], record.metrics["regions/p"]
    ax_accuracy.set_title(f"permutation tests:\np = {p:.2g}, all tiles {among:.2g}", fontsize=8)


def scatter_points(ax: Axes, picture: Picture) -> None:
    early, final = (np.asarray(picture.record.array(name)) for name in ("early", "final"))
    ax.scatter(early[:, 0], early[:, 1], s=6, color="tab:orange", label='after 2 epochs ("1")', linewidths=0)
    ax.scatter(final[:, 0], final[:, 1], s=6, color="tab:red", label='after 8 epochs ("7")', linewidths=0)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.21), ncols=2, handletextpad=0.1, columnspacing=0.8)


FEWER = "40 networks instead of 100 give another surrogate: compare at scale paper"


@figure("fig5", source=f"{PAPER}, figure 5", experiments=("morse_graph", "mnist_training"))
class MnistRetraction:
    """Order retraction for MNIST after 8 epochs in the two weights of largest spread, the networks on it, and entropy
    and accuracy of the networks that start inside and outside the tile of the main attractor: rows paired by network
    above, shuffled rows (the published situation) below; grey: no order retraction. The published picture, a dozen
    cells at the mean of the final weights with a tile of a quarter of the box, is what a nearly constant map with
    one-cell padding leaves (3 x 3 to 4 x 4 cells). With the rows paired the map is close to the identity: the
    grid holds up to hundreds of nodes of a few cells, nearly all with a trivial index, and in most ensembles an order
    retraction exists on a part of the box only. Whether the tile of the start predicts the final accuracy is tested
    by permutation: inside against outside, and all tiles."""

    def runs(self, scale: str) -> list[Config]:
        return both_pairings("mnist_epoch_8", scale)

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(2, 4, figsize=(11.5, 6.0), width_ratios=(1.25, 1.25, 1, 1))
        for line, (title, picture) in zip(axes, side_by_side(runs, 2, 0.277), strict=True):
            for ax in line[:2]:
                draw_retraction(ax, picture)
            scatter_points(line[1], picture)
            line[0].set_title(title, fontsize=8, loc="left")
            line[2].set_title("")
            group_violins(line[2], line[3], picture)
        paired, shuffled = pictures(runs, pairing="by_net"), pictures(runs, pairing="shuffled")
        table = pd.DataFrame([facts(p) for p in (*paired, *shuffled)])
        p = " and ".join(f"{label} {combined(runs, label, 'tile/p'):.2g}" for label in LABELS)
        remarks = f"{compared(paired, shuffled)}; permutation tests combined over seeds, one shuffle each (Fisher): {p}"
        return Drawing(fig, table, remarks)

    def claims(self, runs: Runs) -> list[Claim]:
        source, only = f"{PAPER}, figure 5", ("paper",)
        published = {NODES: 2, CELLS: 12, TILE: 27.7, INSIDE: 24}
        return [
            *numbers(runs, "MNIST, 8 epochs", source, published, only, FEWER),
            *(claim for label in LABELS for claim in predicts(runs, source, label, only, FEWER)),
            *(upper_nodes(runs, "MNIST", source, label) for label in LABELS),
        ]


@figure("figS2", source=f"{PAPER}, figure S.2", experiments=("morse_graph", "mnist_training"))
class MnistSplit:
    """The networks of figure 5 where they are after two epochs: red inside the tile of the main attractor, orange
    outside. Found by cell look-up, for both pairings."""

    def runs(self, scale: str) -> list[Config]:
        return both_pairings("mnist_epoch_8", scale)

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.5))
        table = []
        for ax, (title, picture) in zip(axes, side_by_side(runs, 2, 0.277), strict=True):
            draw_retraction(ax, picture)
            early, networks = np.asarray(picture.record.array("early")), picture.record.table("networks")
            region, inside = networks["region"], networks["inside"].to_numpy()
            for group, colour, name in ((inside, "tab:red", "inside"), (~inside, "tab:orange", "outside")):
                ax.scatter(
                    early[group, 0], early[group, 1], s=8, color=colour, linewidths=0, label=f"{name}: {group.sum()}"
                )
            ax.set_title(title, fontsize=7.5)
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.21), ncols=2, handletextpad=0.1)
            table += [
                {
                    "panel": title.partition(",")[0],
                    "seed": picture.record.seed,
                    "network": r,
                    "x": x,
                    "y": y,
                    "region": q,
                    "inside": i,
                }
                for r, ((x, y), q, i) in enumerate(zip(early, region, inside, strict=True))
            ]
        return Drawing(fig, pd.DataFrame(table), "published, shuffled rows: 24 inside, 76 outside")


OF_INTEREST = (
    "iris_baseline", "iris_layers_2", "iris_epoch_450", "mnist_baseline", "mnist_layers_2", "mnist_epoch_8",
    "mnist_epoch_16",
)  # fmt: skip


@figure("figS1", source=f"{PAPER}, figure S.1", experiments=("morse_graph", "iris_training", "mnist_training"))
class OtherRetractions:
    """Order retractions of the other configurations and of the weights of smallest spread, rows paired by network;
    grey: no order retraction. The released outputs of this loop reused the first surrogate of the process and are no
    reference."""

    def runs(self, scale: str) -> list[Config]:
        shown = ("iris_epoch_450", "mnist_epoch_8")  # figures 3 and 5
        panels = [
            (n, pair) for pair in ("largest", "smallest") for n in OF_INTEREST if pair != "largest" or n not in shown
        ]
        trainings: list[Config] = [training(name, scale) for name in OF_INTEREST]
        return trainings + [surrogate(name, scale, pair=pair, seeds=SEEDS[scale][:1]) for name, pair in panels]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        found = [(config, Picture(records[0])) for config, records in runs.of("morse_graph")]
        fig, axes = plt.subplots(3, 4, figsize=(11.5, 8.2))
        for ax, (config, picture) in zip(axes.flat, found, strict=True):
            draw_retraction(ax, picture)
            title = f"{config.architecture}, {config.epochs} epochs, {config.pair}"
            ax.set_title(f"{title}\n{picture.summary()}", fontsize=7.5)
        return Drawing(fig, pd.DataFrame([facts(picture) for _, picture in found]))
