"""Figures of our own: other constructions from the same data, and a known map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from reprod.analysis.morse_graph.picture import Picture, draw_graph, draw_retraction, facts
from reprod.analysis.morse_graph.published import TITLES
from reprod.analysis.morse_graph.runs import PAPER, surrogate, training
from reprod.config import Config, at_scale
from reprod.figures.alter import Case, altered
from reprod.figures.claims import PRINTED, Claim, Exact
from reprod.figures.figure import Drawing, Runs, figure
from reprod.morse_graph.config import MorseGraph

VARIANTS: dict[str, dict[str, Any]] = {
    "as defined": {},
    "trivial nodes pruned": {"prune": True},
    "prior mean x: displacements": {"prior": "identity"},
    "level 0.95, S = 12": {"level": 0.95, "subdivisions": 12, "conley": False},
}


@figure("variants", source=f"not in {PAPER}: other constructions", experiments=("morse_graph",))
class Variants:
    """Four constructions from the same paired data, iris after 450 epochs above and MNIST after 8 below: as defined;
    without nodes of trivial index; a surrogate of the displacements; images that hold a path of the process with
    probability 0.95 at all corners. The period-2 orbit of iris disappears with the prior mean x, and at level 0.95 the
    data do not separate any two regions."""

    def runs(self, scale: str) -> list[Config]:
        names = ("iris_epoch_450", "mnist_epoch_8")
        trainings: list[Config] = [training(name, scale) for name in names]
        return trainings + [surrogate(n, scale, **self._settings(v, scale)) for n in names for v in VARIANTS.values()]

    @staticmethod
    def _settings(variant: dict[str, Any], scale: str) -> dict[str, Any]:
        coarse = {"subdivisions": min(variant.get("subdivisions", 15), 10)} if scale == "smoke" else {}
        return {**variant, **coarse}

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(2, 4, figsize=(11.5, 5.6))
        found = [(config, records) for config, records in runs.of("morse_graph")]
        titles = [f"{data}: {variant}" for data in TITLES.values() for variant in VARIANTS]
        for ax, (_, records), title in zip(axes.flat, found, titles, strict=True):
            picture = Picture(records[0])
            draw_retraction(ax, picture)
            ax.set_title(f"{title}\n{picture.summary()}", fontsize=7.5)
        return Drawing(fig, pd.DataFrame([facts(Picture(r)) for _, records in found for r in records]))


@figure("leslie", source="the example of CMGDB's documentation", experiments=("morse_graph",))
class Leslie:
    """The Leslie model ((19.6 x + 23.68 y) exp(-0.1 (x + y)), 0.7 x), no padding, S = 18: a known map as a check of
    grid, Morse graph and order retraction."""

    def runs(self, scale: str) -> list[Config]:
        subdivisions = 12 if scale == "smoke" else 18
        return [at_scale(MorseGraph, scale, map="leslie", subdivisions=subdivisions, padding=False)]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        picture = Picture(runs.records[0])
        fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.6), width_ratios=(1, 1.3))
        draw_graph(axes[0], picture)
        draw_retraction(axes[1], picture)
        axes[1].set(xlabel="young", ylabel="old")
        table = pd.DataFrame(
            {"node": range(picture.m), "cells": picture.sizes, "tile": picture.tiles, "index": picture.indices}
        )
        return Drawing(fig, table)

    def claims(self, runs: Runs) -> list[Claim]:
        return [
            Exact(
                name="leslie nodes", statement="Leslie map, S = 18 uniform, no padding: nodes of the Morse graph",
                source="CMGDB's example", published="7", basis=PRINTED, value=Picture(runs.records[0]).m, target=7,
                paper_n=1, fmt=".0f", refuted_by=with_nodes(6), confirmed_by=with_nodes(7), run_ids=runs.ids,
            )
        ]  # fmt: skip


def with_nodes(count: int) -> Callable[[Runs], Runs]:
    def nodes(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        return pd.concat([table] * count, ignore_index=True).iloc[:count]

    return lambda runs: altered(runs, tables={"nodes": nodes})
