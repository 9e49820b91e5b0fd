"""Figure 4: label corruption.

The images whose labels are corrupted matter (at p = 0.8 accuracies of 0.16, 0.20 and 0.24 were seen): a sample is an
ensemble with a corrupted data set of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import (
    ONE_PIXEL,
    PAPER,
    Array,
    band,
    ensembles,
    example_means,
    first,
    jitter,
    letter,
    lost,
    means,
)
from reprod.config import Config, at_scale
from reprod.figures import style
from reprod.figures.alter import Case, altered
from reprod.figures.claims import All, AtLeast, AtMost, Claim, Equals, Ordered, our_limit, read_off
from reprod.figures.figure import Drawing, Runs, figure
from reprod.le_sde import estimate
from reprod.le_sde.config import LEVELS, RANDOM_LABELS, GeomnistDynamics

CLAIMED = (0.0, 0.2, 0.5, RANDOM_LABELS, 0.7, 0.8)  # levels of which something is claimed: several ensembles
# p: final validation loss and accuracy with the scatter that was read, tail index of A with the least that matters
PUBLISHED: dict[float, dict[str, tuple[float, float]]] = {
    0.0: {"loss": (0.002, 0.018), "accuracy": (1.0, 0.02), "tail": (0.677, 0.05)},
    0.2: {"loss": (0.29, 0.06), "accuracy": (0.98, 0.02), "tail": (0.730, 0.05)},
    0.5: {"loss": (1.02, 0.03), "accuracy": (0.58, 0.06), "tail": (0.834, 0.08)},
    RANDOM_LABELS: {"loss": (1.1005, 0.006), "accuracy": (0.338, 0.02), "tail": (1.008, 0.08)},
}


def shown_levels(scale: str) -> tuple[float, ...]:
    return CLAIMED if scale == "smoke" else LEVELS


@figure("fig4", source=f"{PAPER}, figure 4", experiments=("geomnist_dynamics",))
class Corruption:
    """Label corruption p on GeoMNIST: validation loss (a) and accuracy (b) of one ensemble, mean and 95 % band over its
    networks, and the tail index of A and B in the I-model against p (c), of every ensemble. Dots and crosses: as
    published; diamonds: least-squares slope of log A on log t, which depends on no level."""

    def runs(self, scale: str) -> list[Config]:
        some = [c for p in CLAIMED for c in ensembles(GeomnistDynamics, scale, corruption=p)]
        return [
            *some,
            *(at_scale(GeomnistDynamics, scale, corruption=p) for p in shown_levels(scale) if p not in CLAIMED),
        ]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.2))
        drawn = [first(runs.where(corruption=p)) for p in shown_levels(runs.scale)]
        rows: list[list[Any]] = []
        for colour, (config, record) in zip(style.shades(len(drawn)), drawn, strict=True):
            t = np.asarray(record.array("evaluated"))
            for ax, name in zip(axes, ("val_loss", "val_accuracy"), strict=False):
                mean, half = band(np.asarray(record.array(name), dtype=float))
                ax.fill_between(t, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
                ax.plot(t, mean, color=colour, lw=1.1, label=f"{config.corruption:.3g}")
                rows += [
                    [config.corruption, record.seed, name, int(a), b, c]
                    for a, b, c in zip(t, mean, half, strict=True)
                ]  # fmt: skip
        axes[0].axhline(math.log(3), color="black", ls=":", lw=0.9)
        axes[0].set(ylabel="validation loss", xlabel="t", ylim=(0, 1.25))
        axes[0].legend(title="p", loc="lower left", fontsize=6.5, title_fontsize=7, labelspacing=0.25, handlelength=1.2)
        axes[1].axhline(1 / 3, color="black", ls=":", lw=0.9)
        axes[1].set(ylabel="validation accuracy", xlabel="t", ylim=(0.1, 1.02))
        table = tails(runs)
        self._tails(axes[2], table, sorted({config.networks for config, _ in runs}))
        for ax, name in zip(axes, "abc", strict=True):
            letter(ax, name)
        for entry in table.to_dict("records"):
            rows += [[entry["p"], entry["ensemble"], name, None, entry[name], None] for name in table.columns[2:]]
        remarks = "dotted line in b at 1/3, chance (the published one was at 2/3)"
        columns = ["p", "ensemble", "quantity", "t", "value", "half_width"]
        return Drawing(fig, pd.DataFrame(rows, columns=columns).astype({"t": "Int64"}), remarks)

    def _tails(self, ax: Any, table: pd.DataFrame, networks: list[int]) -> None:
        for column, marker, colour, label in (
            ("r_alpha", "o", style.BLUE, r"$\hat A$"), ("r_beta", "x", style.ORANGE, r"$\hat B$"),
            ("slope_alpha", "D", style.SKY, r"$\hat A$, slope"),
        ):  # fmt: skip
            ax.plot(table["p"], table[column], marker, color=colour, ms=3.5, alpha=0.7, label=label)
        low, high = max(-1.0, min(0.4, float(table["slope_alpha"].min()) - 0.1)), 1.55
        ax.axhspan(low, 1, color=style.GREEN, alpha=0.08, lw=0)
        ax.axhspan(1, high, color=style.RED, alpha=0.08, lw=0)
        ax.axhline(1, color="black", ls=":", lw=0.9)
        ax.axvline(RANDOM_LABELS, color="black", ls=":", lw=0.9)
        ax.set(xlabel="p", ylabel=f"tail index (R = {', '.join(map(str, networks))})", ylim=(low, high))
        ax.legend(loc="upper left", ncols=3, columnspacing=1, handletextpad=0.2)

    def claims(self, runs: Runs) -> Iterator[Claim]:
        for p, published in PUBLISHED.items():
            of = runs.where(corruption=p)
            for name in ("loss", "accuracy"):
                yield _ends_at(of, p, name, *published[name])
        yield All(
            name="above", statement="p > 2/3 ends above the loss of a constant prediction, ln 3", published="> 1.0986",
            parts=[_above(runs.where(corruption=p), p) for p in (0.7, 0.8)], **_shared(runs, "a"),
        )  # fmt: skip
        for p, published in PUBLISHED.items():
            of, (target, tolerance) = runs.where(corruption=p), published["tail"]
            yield Equals(
                name=f"tail {p:.2g}", statement=f"p = {p:.2g}: tail index of A", published=f"{target:g}",
                samples=[tail(record) for record in of.records], target=target, tolerance=tolerance, spread=False,
                why="half of what lies between p = 0.5 and 2/3" if p >= 0.5 else "A(T) by a factor of 1.6",
                **_shared(of, "c"),
            )  # fmt: skip
        yield from self._transition(runs)

    def _transition(self, runs: Runs) -> Iterator[Claim]:
        found = {p: {r.seed: tail(r) for r in runs.where(corruption=p).records} for p in CLAIMED}
        whole = set.intersection(*map(set, found.values()))  # ensembles that are there at every level
        by_level = {p: np.array([values[seed] for seed in whole]) for p, values in found.items()}
        yield Ordered(
            name="tail rises", statement="the tail index of A rises with p, up to random labels",
            published=", ".join(f"{published['tail'][0]:g}" for published in PUBLISHED.values()),
            samples=[by_level[p] for p in PUBLISHED], **_shared(runs, "c"),
        )  # fmt: skip
        below = np.max([by_level[p] for p in CLAIMED if p < RANDOM_LABELS], axis=0)
        above = np.mean([by_level[p] for p in CLAIMED if p >= RANDOM_LABELS], axis=0)
        part: dict[str, Any] = {"source": f"{PAPER}, figure 4 c", "basis": read_off(ONE_PIXEL), "paper_n": 1,
                "unsuccessful": lost(runs)}  # fmt: skip
        yield All(
            name="crossing", published="0.834 at p = 0.5, 1.008 at 2/3", **_shared(runs, "c"),
            statement="the tail index of A crosses 1 at random labels: below it for p <= 0.5, above from 2/3 on",
            parts=[
                AtMost(name="highest up to p = 0.5", statement="below 1 for p <= 0.5", published="0.834",
                       samples=below, bound=1.0, **part),
                AtLeast(name="mean from p = 2/3 on", statement="above 1 for p >= 2/3", published="1.008 to 1.013",
                        samples=above, bound=1.0, **part),
            ],
        )  # fmt: skip


def _shared(runs: Runs, panel: str) -> dict[str, Any]:
    return {
        "source": f"{PAPER}, figure 4 {panel}", "basis": read_off(ONE_PIXEL), "paper_n": 1, "run_ids": runs.ids,
        "unsuccessful": lost(runs), "fmt": ".3f", "refuted_by": partial(corruption_world, right=False),
        "confirmed_by": partial(corruption_world, right=True),
    }  # fmt: skip


def final(record: Any, name: str) -> float:
    """Validation loss or accuracy at the end, mean over the networks."""
    return float(np.mean(np.asarray(record.array(f"val_{name}"), dtype=float)[-1]))


def tail(record: Any) -> float:
    return estimate.tail_index(estimate.i_model(means(record))[0])


def _ends_at(runs: Runs, p: float, name: str, target: float, tolerance: float) -> Claim:
    samples = [final(record, name) for record in runs.records]
    what = {"name": f"{name} {p:.2g}", "statement": f"p = {p:.2g}: validation {name} at the end", "samples": samples,
            "published": f"{target:g}", **_shared(runs, "a" if name == "loss" else "b")}  # fmt: skip
    if p == 0 and name == "loss":
        return AtMost(**what, bound=target + tolerance)
    if p == 0:
        return AtLeast(**what, bound=target - tolerance)
    return Equals(**what, target=target, tolerance=tolerance, spread=False, why="the scatter of the picture's curves")


def _above(runs: Runs, p: float) -> Claim:
    return AtLeast(
        name=f"p = {p:g}", statement=f"p = {p:g} ends above ln 3", source=f"{PAPER}, figure 4 a", published="> 1.0986",
        basis=our_limit("the loss of a constant prediction"), samples=[final(r, "loss") for r in runs.records],
        bound=math.log(3), paper_n=1, fmt=".3f", unsuccessful=lost(runs),
    )  # fmt: skip


def tails(runs: Runs) -> pd.DataFrame:
    """Tail index and least-squares exponent of A and B in the I-model, a row per corruption and ensemble."""
    rows = []
    for record in runs.records:
        A, B = estimate.i_model(means(record))
        indices = estimate.tail_index(A), estimate.tail_index(B)
        rows.append([record.config.corruption, record.seed, *indices, estimate.tail_slope(A), estimate.tail_slope(B)])
    table = pd.DataFrame(rows, columns=["p", "ensemble", "r_alpha", "r_beta", "slope_alpha", "slope_beta"])
    return table.sort_values(["p", "ensemble"], ignore_index=True)


def corruption_world(runs: Runs, right: bool) -> Runs:
    """Five ensembles as published, or such that end alike whatever p, with tail indices on the wrong sides of 1."""

    def published(case: Case) -> dict[str, tuple[float, float]]:
        p = case.config.corruption
        return PUBLISHED.get(p, {"loss": (1.11, 0.0), "accuracy": (0.3, 0.0), "tail": (1.02, 0.0)})

    def ends(name: str, wrong: float) -> Any:
        def change(values: Array, case: Case) -> Array:
            return 0 * values + (published(case)[name][0] if right else wrong) + jitter(case.index, 1e-4)

        return change

    def means_of(_: Array, case: Case) -> Array:
        r = published(case)["tail"][0] + jitter(case.index, 0.002)
        if not right:
            r += 0.3 if case.config.corruption < RANDOM_LABELS else -0.3
        t = np.arange(10_000.0)
        return example_means(np.where(t > 0, (t + 1) ** (1 - r), 0.0))

    change = {"val_loss": ends("loss", 0.7), "val_accuracy": ends("accuracy", 0.75), "class_means": means_of}
    return altered(runs, seeds=5, arrays=change)
