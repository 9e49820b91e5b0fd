"""The sample-size study."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import PAPER, Array, holds, letter, means, plot_grid, too_small
from reprod.config import Config, at_scale
from reprod.figures import style
from reprod.figures.figure import Claim, Drawing, Runs, figure
from reprod.le_sde import estimate
from reprod.le_sde.config import (
    SAMPLE_SIZES,
    GeomnistDynamics,
)


@figure("sample_size", source=f"{PAPER}, supplement (sample size)", experiments=("geomnist_dynamics",))
class SampleSize:
    """GeoMNIST with m images per class, split 80/20: validation accuracy, own logit Xbar^k_k averaged over classes
    (xbar) after Gaussian smoothing, its logarithmic increment (rolling mean of 200), and E(t) = xbar(t) e^(-lambda t) -
    xbar(0) with the rate lambda after t = 4000. Curves of all m coincide."""

    SIZES = {"paper": SAMPLE_SIZES, "small": (50, 300, 1000), "smoke": (20, 40)}

    def runs(self, scale: str) -> list[Config]:
        fewer = {"networks": 30} if scale == "small" else {}
        return [at_scale(GeomnistDynamics, scale, n_train=m * 4 // 5, n_val=m // 5, **fewer) for m in self.SIZES[scale]]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(1, 4, figsize=(10.5, 2.9))
        rows = []
        for colour, (config, records) in zip(style.shades(len(runs)), runs, strict=True):
            m, record = config.n_train + config.n_val, records[0]
            t, accuracy = np.asarray(record.array("evaluated")), np.asarray(record.array("val_accuracy")).mean(axis=1)
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

    def claims(self, runs: Runs) -> list[Claim]:
        source = f"{PAPER}, supplement (sample size)"
        if runs.scale == "smoke":
            return too_small(runs, source, "curves of all sample sizes coincide")
        at2000, at5000, own, trials = {}, {}, {}, 0
        for config, records in runs:
            m, record = config.n_train + config.n_val, records[0]
            t, accuracy = np.asarray(record.array("evaluated")), np.asarray(record.array("val_accuracy")).mean(axis=1)
            at2000[m], at5000[m] = float(np.interp(2000, t, accuracy)), float(np.interp(5000, t, accuracy))
            own[m], trials = float(own_logit(means(record))[0][-200:].mean()), config.networks

        def each(values: dict[int, float]) -> str:
            return ", ".join(f"m = {m}: {v:.2f}" for m, v in values.items())

        return [
            holds(runs, "accuracy 2000", "validation accuracy at t = 2000 is 0.62 for all m (+- 0.08)", "0.62",
                  each(at2000), all(abs(v - 0.62) <= 0.08 for v in at2000.values()), source=source, n=trials),
            holds(runs, "accuracy 5000", "validation accuracy reaches 0.99 by t = 5000 (+- 0.02)", "0.99", each(at5000),
                  all(v >= 0.97 for v in at5000.values()), source=source, n=trials),
            holds(runs, "own logit", "the own logit xbar ends between 8 and 9 for all m (+- 1)", "8 ... 9", each(own),
                  all(7 <= v <= 10 for v in own.values()), source=source, n=trials),
        ]  # fmt: skip


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
