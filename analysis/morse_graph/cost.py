"""Figures S.6 and S.7: what a Morse graph costs; and what depends on the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.analysis.morse_graph.picture import ROWS
from reprod.analysis.morse_graph.published import PUBLISHED_BY_DIMENSION, PUBLISHED_BY_SUBDIVISION
from reprod.analysis.morse_graph.runs import PAPER, ids, lost, surrogate, training
from reprod.config import Config
from reprod.figures.alter import Case, altered
from reprod.figures.claims import PRINTED, AtMost, Claim, Equals
from reprod.figures.figure import Drawing, Runs, figure

if TYPE_CHECKING:
    from reprod.store import Record

DIMENSIONS = {"paper": (2, 3, 4, 5), "small": (2, 3, 4), "smoke": (2, 3)}
SUBDIVISIONS = {"paper": tuple(range(5, 20)), "small": tuple(range(5, 18)), "smoke": (5, 6, 7, 8)}
BOOTSTRAP = {"paper": 100, "small": 20, "smoke": 3}


def sweep_table(records: Iterable[Record]) -> pd.DataFrame:
    frames = []
    for record in records:
        frame = pd.concat([record.table("sweep"), record.table("timing_sweep")[["fit", "graph"]]], axis=1)
        frames.append(frame.assign(seed=record.seed, pairing=record.config.pairing))
    return pd.concat(frames, ignore_index=True)


def by_dimension(scale: str) -> list[Config]:
    return [training("iris_epoch_450", scale), surrogate("iris_epoch_450", scale, sweep_dimensions=DIMENSIONS[scale])]


def by_subdivision(scale: str) -> list[Config]:
    settings: dict[str, Any] = {"sweep": SUBDIVISIONS[scale], "bootstrap": BOOTSTRAP[scale]}
    name = "iris_epoch_450"
    both = [surrogate(name, scale, **settings), surrogate(name, scale, pairing="shuffled", **settings)]
    return [training(name, scale), *both]


def draw_timing(table: pd.DataFrame, x: str, label: str, published: dict[int, float]) -> Any:
    import matplotlib.pyplot as plt

    from reprod.figures.style import BLUE, GREY, ORANGE

    fig, ax = plt.subplots(figsize=(4.2, 3.2))
    ax.plot(list(published), list(published.values()), "s", color=GREY, label="published (their laptop)")
    for column, colour, name in (("graph", BLUE, "ours: Morse graph and retraction"), ("fit", ORANGE, "ours: fit")):
        ax.plot(table[x], table[column], "o", color=colour, ms=3.5, alpha=0.7, label=name)
    ax.set(yscale="log", xlabel=label, ylabel="time (seconds)", xticks=sorted({*table[x], *published}))
    ax.legend()
    return fig


def growth(table: pd.DataFrame, x: str, last: int) -> list[float]:
    """For each seed the mean factor (geometric) by which the time grows with each step of x, over the last ones."""
    found = []
    for _, rows in table.groupby("seed"):
        rows = rows.sort_values(x).tail(last)
        steps = rows[x].iloc[-1] - rows[x].iloc[0]
        found.append(float((rows["graph"].iloc[-1] / rows["graph"].iloc[0]) ** (1 / steps)) if steps else math.nan)
    return found


def doubles(runs: Runs, name: str, x: str, last: int, published: dict[int, float], **more: Any) -> Claim:
    """The time grows with each step of x as much as the published one, which doubles."""
    ratios = [b / a for a, b in pairwise(published.values())]
    low, high = min(ratios), max(ratios)
    return Equals(
        name=name, published=f"{low:.2f} to {high:.2f}", basis=PRINTED,
        samples=growth(sweep_table(paired(runs)), x, last), target=(low + high) / 2, tolerance=(high - low) / 2,
        why="as far as the printed times go from step to step", unsuccessful=lost(runs), run_ids=ids(paired(runs)),
        refuted_by=timed(x, 4.0), confirmed_by=timed(x, (low + high) / 2), **more,
    )  # fmt: skip


def timed(x: str, factor: float) -> Callable[[Runs], Runs]:
    """Runs whose time grows by this factor with each step."""

    def seconds(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        return table.assign(graph=(1 + 0.01 * case.index) * (factor + 0.002 * case.index) ** table[x])

    return lambda runs: altered(runs, seeds=5, tables={"timing_sweep": seconds})


def paired(runs: Runs) -> list[Record]:
    return runs.of("morse_graph").where(pairing="by_net").records


@figure("figS6", source=f"{PAPER}, figure S.6", experiments=("morse_graph", "iris_training"))
class TimeByWeights:
    """Time of one Morse graph by the number of weights that span the phase space, iris after 450 epochs, S = 15. The
    published time is that of evaluating the process at 2^d corners of each cell, one point at a time; ours is that of
    the edges, of which one-cell padding makes at least 3^d for each cell."""

    def runs(self, scale: str) -> list[Config]:
        return by_dimension(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = sweep_table(runs.of("morse_graph").records)
        fig = draw_timing(table, "dimension", "number of weights", PUBLISHED_BY_DIMENSION)
        return Drawing(fig, table.assign(published=table["dimension"].map(PUBLISHED_BY_DIMENSION)))

    def claims(self, runs: Runs) -> list[Claim]:
        return [
            doubles(
                runs, "time by weights", "dimension", 4, PUBLISHED_BY_DIMENSION, source=f"{PAPER}, figure S.6",
                statement="The time of a Morse graph doubles with each weight (mean factor)",
                remark="our time is spent on edges (at least 3^d for each cell), theirs on 2^d evaluations",
            )
        ]  # fmt: skip


@figure("figS7", source=f"{PAPER}, figure S.7", experiments=("morse_graph", "iris_training"))
class TimeBySubdivisions:
    """Time of one Morse graph by the number of subdivisions, iris after 450 epochs, two weights."""

    def runs(self, scale: str) -> list[Config]:
        return by_subdivision(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = sweep_table(paired(runs))
        fig = draw_timing(table, "subdivisions", "phase space subdivisions S", PUBLISHED_BY_SUBDIVISION)
        return Drawing(fig, table.assign(published=table["subdivisions"].map(PUBLISHED_BY_SUBDIVISION)))

    def claims(self, runs: Runs) -> list[Claim]:
        source, grown = f"{PAPER}, figure S.7", {S: PUBLISHED_BY_SUBDIVISION[S] for S in range(9, 18)}
        table = sweep_table(paired(runs))
        at_15 = table[table["subdivisions"] == 15]
        return [
            doubles(
                runs, "time by subdivisions", "subdivisions", 5, grown, source=source,
                statement="The time of a Morse graph doubles with each subdivision (mean factor; theirs from S = 9, "
                "ours over the last four)",
            ),
            AtMost(
                name="time at S=15", statement="Fit, Morse graph and retraction at S = 15 take less than published",
                source=source, published="68.59 s", basis=PRINTED, unit=" s", bound=68.59, each=True,
                samples=(at_15["graph"] + at_15["fit"]).tolist(), unsuccessful=lost(runs), run_ids=ids(paired(runs)),
                remark="theirs on a laptop of 2021, ours on this machine",
            ),
        ]  # fmt: skip


@figure(
    "grid",
    source=f"not in {PAPER}: what depends on grid and sample",
    experiments=("morse_graph", "iris_training"),
)
class GridDependence:
    """Nodes of the Morse graph by the number of subdivisions, for each seed, and over bootstrap samples of the networks
    (iris after 450 epochs, S = 15): the data settle neither the number of nodes nor the tile of the attractor."""

    def runs(self, scale: str) -> list[Config]:
        return by_subdivision(scale)

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        from reprod.figures.style import CYCLE

        fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.1))
        table = sweep_table(runs.of("morse_graph").records)
        for ax, (pairing, title) in zip(axes, ROWS.items(), strict=False):
            for (seed, rows), colour in zip(table[table["pairing"] == pairing].groupby("seed"), CYCLE, strict=False):
                ax.plot(rows["subdivisions"], rows["nodes"], "o-", ms=3, color=colour, label=f"seed {seed}")
            ax.set(xlabel="phase space subdivisions S", ylabel="nodes", title=title)
            ax.set_xticks(sorted(set(table["subdivisions"]))[::2])
            ax.set_ylim(bottom=0)
            ax.yaxis.get_major_locator().set_params(integer=True)
            ax.legend(ncols=2)
        for i, (pairing, colour) in enumerate(zip(ROWS, CYCLE, strict=False)):
            records = runs.of("morse_graph").where(pairing=pairing).records
            nodes = np.concatenate([record.table("bootstrap")["nodes"] for record in records])
            share = np.bincount(np.minimum(nodes, 12).astype(int), minlength=13) / len(nodes)
            axes[2].bar(np.arange(13) + 0.4 * i - 0.2, share, width=0.4, color=colour, label=ROWS[pairing])
        axes[2].set(
            xlabel="nodes (12: or more)", ylabel="share of bootstrap samples", title="networks drawn with replacement"
        )
        axes[2].set_xticks(range(0, 13, 2))
        axes[2].legend()
        return Drawing(fig, table)
