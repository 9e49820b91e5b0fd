"""The sample-size study (figures of the first public notebooks only)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import (
    PAPER,
    Array,
    ensembles,
    first,
    jitter,
    letter,
    lost,
    means,
    plot_grid,
)
from reprod.config import Config
from reprod.figures import style
from reprod.figures.alter import Case, altered
from reprod.figures.claims import All, AtLeast, Claim, Equals, read_off
from reprod.figures.figure import Drawing, Runs, figure
from reprod.le_sde import estimate
from reprod.le_sde.config import SAMPLE_SIZES, GeomnistDynamics

SIZES = {"paper": SAMPLE_SIZES, "small": (50, 300, 1000), "smoke": (20, 40)}


@figure("sample_size", source=f"{PAPER}, supplement (sample size)", experiments=("geomnist_dynamics",))
class SampleSize:
    """GeoMNIST with m images per class, split 80/20: validation accuracy, own logit Xbar^k_k averaged over classes
    (xbar) after Gaussian smoothing, its logarithmic increment (rolling mean of 200), and E(t) = xbar(t) e^(-lambda t) -
    xbar(0) with the rate lambda after t = 4000. Curves of all m coincide."""

    def runs(self, scale: str) -> list[Config]:
        return [c for m in SIZES[scale] for c in ensembles(GeomnistDynamics, scale, **split(m))]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(1, 4, figsize=(10.5, 2.9))
        rows = []
        sizes = SIZES[runs.scale]
        for colour, m in zip(style.shades(len(sizes)), sizes, strict=True):
            _, record = first(runs.where(**split(m)))
            t, accuracy = accuracy_curve(record)
            axes[0].plot(t, accuracy, color=colour, label=str(m))
            own, increments, excess = own_logit(means(record))
            grid = plot_grid(len(own))
            for ax, curve in zip(axes[1:], (own, estimate.rolling(increments, 200), excess), strict=True):
                at = grid[grid < len(curve)]
                ax.plot(at, curve[at], color=colour, lw=1)
            rows += [[m, "val_accuracy", int(a), float(b)] for a, b in zip(t, accuracy, strict=True)]
            rows += [[m, "xbar", int(a), float(own[a])] for a in grid[::20]]
        labels = ("validation accuracy", r"$\bar x(t)$", r"$\log\,\bar x(t+1)/\bar x(t)$", r"$E(t)$")
        for ax, label, name in zip(axes, labels, "abcd", strict=True):
            ax.set(xlabel="t", ylabel=label)
            letter(ax, name)
        axes[2].set_ylim(-0.002, 0.008)
        axes[0].legend(title="m", loc="lower right", title_fontsize=7.5)
        return Drawing(fig, pd.DataFrame(rows, columns=["m", "quantity", "t", "value"]))

    def claims(self, runs: Runs) -> Iterator[Claim]:
        yield for_all_sizes(
            runs, "accuracy 2000", "validation accuracy at t = 2000 is 0.62 for all m", "0.62",
            partial(Equals, target=0.62, tolerance=0.08, spread=False, why="0.08 are 330 iterations of this curve"),
            lambda record: accuracy_at(record, 2000),
        )  # fmt: skip
        yield for_all_sizes(
            runs, "accuracy 5000", "validation accuracy reaches 0.99 by t = 5000 for all m", "0.99",
            partial(AtLeast, bound=0.97), lambda record: accuracy_at(record, 5000),
        )  # fmt: skip
        yield for_all_sizes(
            runs, "own logit", "the own logit xbar ends between 8 and 9 for all m", "8 to 9",
            partial(Equals, target=8.5, tolerance=1.0, spread=False, why="a range over sizes, read to half a unit"),
            lambda record: float(own_logit(means(record))[0][-200:].mean()),
        )  # fmt: skip


def split(m: int) -> dict[str, int]:
    return {"n_train": m * 4 // 5, "n_val": m // 5}


def for_all_sizes(
    runs: Runs, name: str, statement: str, published: str, kind: Callable[..., Claim], value: Callable[[Any], float]
) -> Claim:
    """A claim of each sample size, all of which have to hold."""
    shared: dict[str, Any] = {
        "statement": statement, "source": f"{PAPER}, supplement (sample size)", "published": published,
        "basis": read_off("0.02" if "accuracy" in name else "0.5"), "paper_n": 1, "fmt": ".2f",
    }  # fmt: skip
    parts = []
    for m in sorted({config.n_train + config.n_val for config, _ in runs}):
        of = runs.where(**split(m))
        parts.append(kind(name=f"m = {m}", samples=[value(r) for r in of.records], unsuccessful=lost(of), **shared))
    return All(
        name=name, parts=parts, run_ids=runs.ids, refuted_by=partial(size_world, right=False),
        confirmed_by=partial(size_world, right=True), **shared,
    )  # fmt: skip


def accuracy_curve(record: Any) -> tuple[Array, Array]:
    """Times and validation accuracy, mean over the networks."""
    return np.asarray(record.array("evaluated")), np.asarray(record.array("val_accuracy"), dtype=float).mean(axis=1)


def accuracy_at(record: Any, t: int) -> float:
    times, accuracy = accuracy_curve(record)
    return float(np.interp(t, times, accuracy, right=np.nan))


def own_logit(found: Array, width: int = 90, std: float = 30) -> tuple[Array, Array, Array]:
    """xbar (T,) smoothed by a Gaussian window, its logarithmic increments, and E(t) (spec 2.5)."""
    whole = estimate.filled(found)
    own = np.einsum("tkk->t", whole) / whole.shape[1]
    smooth = pd.Series(own).rolling(width, center=True, min_periods=1, win_type="gaussian").mean(std=std).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        increments = np.diff(np.log(np.abs(smooth)))
    rate = np.nanmean(increments[int(0.4 * len(smooth)) :])
    t = np.arange(len(smooth))
    return smooth, increments, smooth * np.exp(-rate * t) - smooth[0]


def size_world(runs: Runs, right: bool) -> Runs:
    """Five ensembles of every size: as published, or of which the largest size learns nothing."""
    largest = max(config.n_train for config, _ in runs)

    def learns(case: Case) -> bool:
        return right or case.config.n_train < largest

    def accuracy(values: Array, case: Case) -> Array:
        t = np.linspace(0, 10_000, 41)
        curve = np.interp(t, (0, 1000, 2000, 4000), (1 / 3, 0.38, 0.62, 1.0)) if learns(case) else 0 * t + 1 / 3
        return np.tile(curve + jitter(case.index, 0.004), (values.shape[1], 1)).T

    def means_of(_: Array, case: Case) -> Array:
        return np.broadcast_to(np.eye(3) * (8.5 if learns(case) else 3.0) + jitter(case.index, 0.05), (4000, 3, 3))

    change = {"evaluated": lambda *_: np.linspace(0, 10_000, 41), "val_accuracy": accuracy, "class_means": means_of}
    return altered(runs, seeds=5, arrays=change)
