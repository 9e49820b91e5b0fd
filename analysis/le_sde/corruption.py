"""Figure 4: label corruption."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import PAPER, crossing_of, holds, letter, means, near, too_small
from reprod.config import Config, at_scale
from reprod.figures import style
from reprod.figures.claims import interval
from reprod.figures.figure import Claim, Drawing, Runs, figure
from reprod.le_sde import estimate
from reprod.le_sde.config import (
    LEVELS,
    RANDOM_LABELS,
    GeomnistDynamics,
)


def shown_levels(scale: str) -> tuple[float, ...]:
    return (0.0, 0.5, RANDOM_LABELS) if scale == "smoke" else LEVELS


@figure("fig4", source=f"{PAPER}, figure 4", experiments=("geomnist_dynamics",))
class Corruption:
    """Label corruption p on GeoMNIST: validation loss (a) and accuracy (b), mean and 95 % band over trials, and the
    tail index of A and B in the I-model against p (c). Dots and crosses: as published; diamonds: least-squares slope of
    log A on log t, which depends on no level."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(GeomnistDynamics, scale, corruption=p) for p in shown_levels(scale)]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.2))
        colours = style.shades(len(runs))
        rows = []
        for colour, (config, records) in zip(colours, runs, strict=True):
            t = np.asarray(records[0].array("evaluated"))
            for ax, name in zip(axes, ("val_loss", "val_accuracy"), strict=False):
                values = np.asarray(records[0].array(name), dtype=float)
                mean, half = values.mean(axis=1), 1.96 * values.std(axis=1, ddof=1) / math.sqrt(values.shape[1])
                ax.fill_between(t, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
                ax.plot(t, mean, color=colour, lw=1.1, label=f"{config.corruption:.3g}")
                rows += [[config.corruption, name, int(a), b, c] for a, b, c in zip(t, mean, half, strict=True)]
        axes[0].axhline(math.log(3), color="black", ls=":", lw=0.9)
        axes[0].set(ylabel="validation loss", xlabel="t", ylim=(0, 1.25))
        axes[0].legend(title="p", loc="lower left", fontsize=6.5, title_fontsize=7, labelspacing=0.25, handlelength=1.2)
        axes[1].axhline(1 / 3, color="black", ls=":", lw=0.9)
        axes[1].set(ylabel="validation accuracy", xlabel="t", ylim=(0.1, 1.02))
        table = tails(runs)
        ax = axes[2]
        for column, marker, colour, label in (
            ("r_alpha", "o", style.BLUE, r"$\hat A$"), ("r_beta", "x", style.ORANGE, r"$\hat B$"),
            ("slope_alpha", "D", style.SKY, r"$\hat A$, slope"),
        ):  # fmt: skip
            ax.plot(table["p"], table[column], marker, color=colour, ms=4, label=label)
        low, high = max(-1.0, min(0.4, float(table["slope_alpha"].min()) - 0.1)), 1.55
        ax.axhspan(low, 1, color=style.GREEN, alpha=0.08, lw=0)
        ax.axhspan(1, high, color=style.RED, alpha=0.08, lw=0)
        ax.axhline(1, color="black", ls=":", lw=0.9)
        ax.axvline(RANDOM_LABELS, color="black", ls=":", lw=0.9)
        trials = sorted({config.networks for config, _ in runs})
        ax.set(xlabel="p", ylabel=f"tail index (R = {', '.join(map(str, trials))})", ylim=(low, high))
        ax.legend(loc="upper left", ncols=3, columnspacing=1, handletextpad=0.2)
        for ax, name in zip(axes, "abc", strict=True):
            letter(ax, name)
        for _, entry in table.iterrows():
            rows += [[entry["p"], name, -1, entry[name], math.nan] for name in table.columns[1:]]
        remarks = "dotted line in b at 1/3, chance (the published one was at 2/3)"
        return Drawing(fig, pd.DataFrame(rows, columns=["p", "quantity", "t", "value", "half_width"]), remarks)

    def claims(self, runs: Runs) -> list[Claim]:
        source = f"{PAPER}, figure 4"
        if runs.scale == "smoke":
            return too_small(runs, source, "corruption past 2/3 prevents separation")
        rows = []
        for p, loss, loss_by, accuracy, accuracy_by in (
            (0.0, 0.002, 0.02, 1.0, 0.02), (0.2, 0.29, 0.06, 0.98, 0.02), (0.5, 1.02, 0.03, 0.58, 0.06),
            (RANDOM_LABELS, 1.10, 0.006, 0.338, 0.02),
        ):  # fmt: skip
            ((config, (record, *_)),) = runs.where(corruption=p)
            for name, published, tolerance in (("loss", loss, loss_by), ("accuracy", accuracy, accuracy_by)):
                last = np.asarray(record.array(f"val_{name}"), dtype=float)[-1]
                rows.append(
                    near(
                        runs,
                        f"{name} {p:.2g}",
                        f"p = {p:.2g}: validation {name} after {config.iterations} steps",
                        published,
                        tolerance,
                        float(last.mean()),
                        spread=interval(last),
                        n=len(last),
                        source=source,
                        ids=[record.id],
                        digits=3,
                    )
                )
        above = {
            c.corruption: float(np.mean(r[0].array("val_loss")[-1])) for c, r in runs if c.corruption > RANDOM_LABELS
        }
        rows.append(
            holds(
                runs,
                "above",
                "p > 2/3 ends above the loss of a constant prediction, ln 3",
                "> 1.0986",
                ", ".join(f"p = {p:g}: {v:.3f}" for p, v in above.items()),
                min(above.values()) > math.log(3),
                source=source,
            )
        )
        table = tails(runs)
        index = dict(zip(table["p"], table["r_alpha"], strict=True))
        trials = max(config.networks for config, _ in runs)
        for p, published, tolerance in (
            (0.0, 0.677, 0.06),
            (0.2, 0.730, 0.06),
            (0.5, 0.834, 0.15),
            (RANDOM_LABELS, 1.008, 0.15),
        ):
            rows.append(
                near(
                    runs,
                    f"tail {p:.2g}",
                    f"p = {p:.2g}: tail index of A",
                    published,
                    tolerance,
                    index[p],
                    source=source,
                    n=trials,
                    digits=3,
                )
            )
        crossing = crossing_of(table["p"].to_numpy(), table["r_alpha"].to_numpy())
        rows.append(
            holds(
                runs,
                "crossing",
                "the tail index of A crosses 1 between p = 0.5 and p = 0.7",
                "0.5 < p < 0.7",
                f"p = {crossing:.2f}",
                0.5 < crossing < 0.7,
                value=crossing,
                source=source,
                n=trials,
                reason=f"r(0.5) = {index[0.5]:.2f}, r(0.7) = {index[0.7]:.2f}",
            )
        )
        return rows


def tails(runs: Runs) -> pd.DataFrame:
    """Tail index and least-squares exponent of A and B in the I-model, a row per corruption."""
    rows = []
    for config, records in runs:
        A, B = estimate.i_model(means(records[0]))
        rows.append(
            [
                config.corruption,
                estimate.tail_index(A),
                estimate.tail_index(B),
                estimate.tail_slope(A),
                estimate.tail_slope(B),
            ]
        )
    return pd.DataFrame(rows, columns=["p", "r_alpha", "r_beta", "slope_alpha", "slope_beta"])
