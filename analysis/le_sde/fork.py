"""Figure 1: class means of the logits separate from a common start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import (
    COLOURS,
    MARKERS,
    ONE_PIXEL,
    PAPER,
    Array,
    ensembles,
    first,
    jitter,
    letter,
    lost,
    means,
    names,
    plot_grid,
    title,
)
from reprod.config import Config
from reprod.figures import style
from reprod.figures.alter import Case, altered
from reprod.figures.claims import All, AtMost, Claim, Equals, our_limit, read_off
from reprod.figures.figure import Drawing, Runs, figure
from reprod.le_sde import drift, estimate
from reprod.le_sde.config import CifarDynamics, GeomnistDynamics

# projected class means at the end, and how far ours may be from them
PUBLISHED: dict[str, tuple[tuple[float, ...], float]] = {
    "geomnist_dynamics": ((10.2, -11.0, 2.7), 1.5),
    "cifar_dynamics": ((-0.1, 2.5, -2.0), 0.8),
}


@figure("fig1", source=f"{PAPER}, figure 1", experiments=("geomnist_dynamics", "cifar_dynamics"))
class Fork:
    """Class means of the logits of a hundred networks: as paths in logit space (a, c; yellow early, purple late, a
    triangle joins the three means at 20 times), and projected on the line between two of them (b, d), with single
    samples as dots. Classes separate from a common start."""

    PAIRS = {"geomnist_dynamics": (0, 1), "cifar_dynamics": (1, 2)}
    VIEWS = {"geomnist_dynamics": (15, -10), "cifar_dynamics": (15, 235)}

    def runs(self, scale: str) -> list[Config]:
        return [*ensembles(GeomnistDynamics, scale), *ensembles(CifarDynamics, scale)]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig = plt.figure(figsize=(7.2, 6.6))
        rows = []
        for row, (config, record) in enumerate(first(runs.of(experiment)) for experiment in self.PAIRS):
            left = fig.add_subplot(2, 2, 2 * row + 1, projection="3d")
            right = fig.add_subplot(2, 2, 2 * row + 2)
            found = means(record)
            self._paths(fig, left, config, found)
            rows += self._projection(right, config, record, found)
            letter(left, f"{'ac'[row]}  {title(config)}")
            letter(right, "bd"[row])
        table = pd.DataFrame(rows, columns=["dataset", "class", "iteration", "projection"])
        return Drawing(fig, table, remarks="class names corrected: the published legend swaps ellipse and triangle")

    def _paths(self, fig: Any, ax: Any, config: Any, found: Array) -> None:
        from matplotlib.colors import Normalize
        from mpl_toolkits.mplot3d.art3d import Poly3DCollection

        grid, whole = plot_grid(len(found)), estimate.filled(found)
        late_first = Normalize(0, len(found))
        ax.computed_zorder = False  # names over points over triangles
        for k, marker in enumerate(MARKERS):
            points = ax.scatter(
                *found[grid, k].T, c=grid, cmap="viridis_r", norm=late_first, marker=marker, s=3, lw=0, zorder=2
            )
            end = 1.25 * whole[-200:, k].mean(axis=0)
            white = {"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.8}
            ax.text(*end, names(config)[k], fontsize=7.5, ha="center", va="center", zorder=3, bbox=white)
        for t in np.linspace(0, len(found) - 1, 20).astype(int):
            lower = max(0, min(t - 5, len(found) - 10))
            corners = whole[lower : lower + 10].mean(axis=0)
            ax.add_collection3d(
                Poly3DCollection([corners], alpha=0.1, facecolor=style.GREY, edgecolor=style.GREY, lw=0.3)
            )
        ax.view_init(*self.VIEWS[config.experiment])
        if config.experiment == "cifar_dynamics":
            ax.invert_zaxis()
        ax.set(xlabel="logit 0", ylabel="logit 1", zlabel="logit 2")
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.labelpad = -4
        ax.tick_params(labelsize=6.5, pad=-2)
        ax.locator_params(nbins=5)
        fig.colorbar(points, ax=ax, shrink=0.55, pad=0.08, label="iteration t")

    def _projection(self, ax: Any, config: Any, record: Any, found: Array) -> list[list[Any]]:
        nu = fork_direction(found, self.PAIRS[config.experiment])
        logits, labels = record.array("logits"), record.array("labels")
        grid, rows = plot_grid(len(found)), []
        for t in np.linspace(0, len(found) - 1, 50).astype(int):
            for k in range(3):
                single = np.asarray(logits[:, t], dtype=float)[np.asarray(labels[:, t]) == k] @ nu
                ax.scatter(
                    single,
                    np.full(len(single), t),
                    color=COLOURS[k],
                    marker=MARKERS[k],
                    alpha=0.2,
                    s=9,
                    lw=0,
                    rasterized=True,
                )
        for k in range(3):
            line = found[grid, k] @ nu
            ax.plot(line, grid, color=COLOURS[k], lw=0.6, alpha=0.8, label=names(config)[k])
            rows += [
                [title(config), names(config)[k], int(t), float(v)] for t, v in zip(grid[::10], line[::10], strict=True)
            ]
        ax.set(xlabel=r"$T_\nu \bar X^k(t)$", ylabel="iteration t", ylim=(0, len(found)))
        for handle in ax.legend(loc="lower right").get_lines():
            handle.set(lw=2, alpha=1)
        return rows

    def claims(self, runs: Runs) -> Iterator[Claim]:
        for experiment, (ends, tolerance) in PUBLISHED.items():
            of = runs.of(experiment)
            config = of.found[0][0]
            found = np.array([late_projections(means(r), self.PAIRS[experiment]) for r in of.records]).reshape(-1, 3)
            for k, value in enumerate(ends):
                yield Equals(
                    name=f"projection {title(config)} {names(config)[k]}",
                    statement=f"{title(config)}: projected class mean of {names(config)[k]} at the end",
                    source=f"{PAPER}, figure 1 {'bd'[experiment == 'cifar_dynamics']}", published=f"{value:g}",
                    basis=read_off(ONE_PIXEL), samples=found[:, k], target=value, tolerance=tolerance,
                    why=f"one ensemble's noisy line moves by about {tolerance / 1.5:.1g} at the end",
                    spread=False, paper_n=1, fmt=".2f", run_ids=of.ids, unsuccessful=lost(of),
                    refuted_by=partial(fork_world, off=3.0), confirmed_by=partial(fork_world, off=0.0),
                )  # fmt: skip
            yield self._simplex(of, config)

    def _simplex(self, of: Runs, config: Config) -> Claim:
        """ "Tend to a simplex": near one at the end, and nearer than at a fifth of the training."""
        found = [means(record) for record in of.records]
        late = np.array([frame_distance(m, len(m)) for m in found])
        early = np.array([frame_distance(m, len(m) // 5) for m in found])
        shared: dict[str, Any] = {"source": f"{PAPER}, abstract (neural collapse)", "published": "a simplex frame",
                                  "paper_n": 1, "fmt": ".2f", "unsuccessful": lost(of)}  # fmt: skip
        cosines = "; ".join(listed(frame_cosines(m, len(m))) for m in found)
        return All(
            name=f"simplex {title(config)}",
            statement=f"{title(config)}: centred class means tend to a simplex ETF, whose pairwise cosines are -1/2",
            **shared, basis=our_limit("a frame with a cosine that is off by more than 0.2 is none"),
            remark=f"cosines at the end: {cosines}", run_ids=of.ids,
            refuted_by=partial(simplex_world, frame=0.0), confirmed_by=partial(simplex_world, frame=1.0),
            parts=[
                AtMost(name="largest distance from -1/2", statement="near a simplex frame at the end", samples=late,
                       basis=our_limit("more than 0.2 is none"), bound=0.2, **shared),
                AtMost(name="less than after a fifth by", statement="nearer than after a fifth of the training",
                       basis=our_limit("towards it, not away from it"), samples=late - early, bound=0.0, **shared),
            ],
        )  # fmt: skip


def fork_direction(found: Array, pair: tuple[int, int]) -> Array:
    """Unit vector of the mean over the last two iterations of Xbar^a - Xbar^b."""
    whole = estimate.filled(found)
    difference = (whole[-2:, pair[0]] - whole[-2:, pair[1]]).mean(axis=0)
    return difference / np.linalg.norm(difference)


def late_projections(found: Array, pair: tuple[int, int]) -> Array:
    """The projected class means (K,) over the last 2 % of the iterations."""
    return estimate.filled(found)[-max(1, len(found) // 50) :].mean(axis=0) @ fork_direction(found, pair)


def frame_cosines(found: Array, last: int, width: int = 500) -> Array:
    """Pairwise cosines of centred class means, which are averaged over the `width` iterations before `last`."""
    average = estimate.filled(found)[max(0, last - width) : last].mean(axis=0)
    return drift.cosines(average - average.mean(axis=0))


def frame_distance(found: Array, last: int) -> float:
    """How far the pairwise cosine that is farthest from a simplex ETF's -1/(K-1) is from it."""
    return float(np.abs(frame_cosines(found, last) + 1 / (found.shape[1] - 1)).max())


def listed(values: Array) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def fork_world(runs: Runs, off: float) -> Runs:
    """Five ensembles whose means end on a line at the published places, moved outwards by `off` tolerances."""

    def ends(found: Array, case: Case) -> Array:
        values, tolerance = PUBLISHED[case.config.experiment]
        along = np.array([v + math.copysign(off * tolerance, v) + jitter(case.index, 0.1 * tolerance) for v in values])
        return np.broadcast_to(along[:, None] * np.array([2.0, -1.0, 2.0]) / 3, found.shape)

    return altered(runs, seeds=5, arrays={"class_means": ends})


def simplex_world(runs: Runs, frame: float) -> Runs:
    """Five ensembles that go from a frame which is none to a simplex frame (`frame` = 1), or never arrive (0)."""
    none = np.array([[1.0, 0, 0], [0.9, 0.4, 0], [-1.9, -0.4, 0]])

    def means_of(found: Array, case: Case) -> Array:
        share = (frame - jitter(case.index, 0.01)) * np.linspace(0, 1, 2000)[:, None, None] ** 0.1
        return (1 - share) * none + share * drift.directions(3)

    return altered(runs, seeds=5, arrays={"class_means": means_of})
