"""Figure 1: class means of the logits separate from a common start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import (
    COLOURS,
    MARKERS,
    PAPER,
    Array,
    letter,
    means,
    names,
    near,
    plot_grid,
    title,
    too_small,
)
from reprod.config import Config, at_scale
from reprod.figures import style
from reprod.figures.claims import interval
from reprod.figures.figure import Claim, Drawing, Runs, figure
from reprod.le_sde import drift, estimate
from reprod.le_sde.config import (
    CifarDynamics,
    GeomnistDynamics,
)


def fork_direction(found: Array, pair: tuple[int, int]) -> Array:
    """Unit vector of the mean over the last two iterations of Xbar^a - Xbar^b."""
    whole = estimate.filled(found)
    difference = (whole[-2:, pair[0]] - whole[-2:, pair[1]]).mean(axis=0)
    return difference / np.linalg.norm(difference)


def frame_cosines(found: Array, last: int, width: int = 500) -> Array:
    """Pairwise cosines of centred class means, which are averaged over the `width` iterations before `last`."""
    average = estimate.filled(found)[max(0, last - width) : last].mean(axis=0)
    return drift.cosines(average - average.mean(axis=0))


def listed(values: Array) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def projections(record: Any, nu: Array, first: int) -> list[Array]:
    """For each class, <nu, logits> of its samples at iterations >= `first`, averaged within each trial."""
    logits = np.asarray(record.array("logits")[:, first:], dtype=float) @ nu
    labels = np.asarray(record.array("labels")[:, first:])
    with np.errstate(invalid="ignore"):
        per_trial = [
            np.array([z[y == k].mean() if (y == k).any() else np.nan for z, y in zip(logits, labels, strict=True)])
            for k in range(len(nu))
        ]
    return [values[np.isfinite(values)] for values in per_trial]


@figure("fig1", source=f"{PAPER}, figure 1", experiments=("geomnist_dynamics", "cifar_dynamics"))
class Fork:
    """Class means of the logits of a hundred networks: as paths in logit space (a, c; yellow early, purple late, a
    triangle joins the three means at 20 times), and projected on the line between two of them (b, d), with single
    samples as dots. Classes separate from a common start."""

    PAIRS = {"geomnist_dynamics": (0, 1), "cifar_dynamics": (1, 2)}
    VIEWS = {"geomnist_dynamics": (15, -10), "cifar_dynamics": (15, 235)}

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(GeomnistDynamics, scale), at_scale(CifarDynamics, scale)]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig = plt.figure(figsize=(7.2, 6.6))
        rows = []
        for row, (config, records) in enumerate(runs):
            left = fig.add_subplot(2, 2, 2 * row + 1, projection="3d")
            right = fig.add_subplot(2, 2, 2 * row + 2)
            found = means(records[0])
            self._paths(fig, left, config, found)
            rows += self._projection(right, config, records[0], found)
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

    def claims(self, runs: Runs) -> list[Claim]:
        source = f"{PAPER}, figure 1"
        if runs.scale == "smoke":
            return too_small(runs, source, "class means fork and end near a simplex")
        rows = []
        published = {"geomnist_dynamics": ((10.2, -11.0, 2.7), 1.5), "cifar_dynamics": ((-0.1, 2.5, -2.0), 0.8)}
        for config, records in runs:
            record, found = records[0], means(records[0])
            nu = fork_direction(found, self.PAIRS[config.experiment])
            late = projections(record, nu, int(0.98 * len(found)))
            values, tolerance = published[config.experiment]
            for k, value in enumerate(values):
                rows.append(
                    near(
                        runs,
                        f"projection {title(config)} {k}",
                        f"{title(config)}: projected class mean of {names(config)[k]} at the end",
                        value,
                        tolerance,
                        float(late[k].mean()),
                        source=source,
                        spread=interval(list(late[k])),
                        n=len(late[k]),
                        ids=[record.id],
                    )
                )
            cosines, early = (frame_cosines(found, last) for last in (len(found), len(found) // 5))
            rows.append(
                near(
                    runs,
                    f"simplex {title(config)}",
                    f"{title(config)}: pairwise cosines of centred class means tend to "
                    "those of a simplex ETF, -1/2 (the one farthest from it counts)",
                    -0.5,
                    0.2,
                    float(cosines[np.argmax(np.abs(cosines + 0.5))]),
                    source=f"{PAPER}, abstract",
                    ids=[record.id],
                    reason=f"cosines {listed(cosines)}; after a fifth of the iterations {listed(early)}",
                    n=config.networks,
                )
            )
        return rows
