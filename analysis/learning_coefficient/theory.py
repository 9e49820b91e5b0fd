"""Figures 10, 16, 17 and the cartoon of volumes: no training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reprod.analysis.learning_coefficient.common import (
    PAPER,
    histogram,
    plt,
)
from reprod.config import Config
from reprod.figures.figure import NOT_REPRODUCED, REPRODUCED, Claim, Drawing, Runs, figure
from reprod.figures.style import BLUE, ORANGE
from reprod.learning_coefficient.exact import (
    dln_dimension,
    dln_learning_coefficient,
)
from reprod.learning_coefficient.sizes import SIZE_CLASSES, sample_widths

if TYPE_CHECKING:
    pass


@figure("fig10", source=f"{PAPER}, model dimensions (F10)")
class Dimensions:
    """Number of parameters of the first 100 networks of each size class, as sampled; no training."""

    def runs(self, scale: str) -> list[Config]:
        return []

    def draw(self, runs: Runs) -> Drawing:
        table = pd.DataFrame(
            {"size_class": c, "seed": i, "parameters": dln_dimension(sample_widths(c, i))}
            for c in SIZE_CLASSES
            for i in range(100)
        )
        fig = histogram(table, "parameters", "parameters $D$ (decades)", bins=30, log=True)
        fig.set_size_inches(5.4, 2.9)
        ax = fig.axes[0]
        ax.legend(title="class", loc="center left", bbox_to_anchor=(1.0, 0.5))
        ax.xaxis.set_major_locator(plt().MultipleLocator(1))
        ax.xaxis.set_major_formatter(lambda v, _: f"$10^{{{v:.0f}}}$")
        ax.set(xlabel="parameters $D$")
        return Drawing(fig, table)

    def claims(self, runs: Runs) -> list[Claim]:
        medians = {c: float(np.median([dln_dimension(sample_widths(c, i)) for i in range(100)])) for c in SIZE_CLASSES}
        published = {"1K": 2.0e3, "10K": 1.3e4, "100K": 3.8e5, "1M": 3.0e6, "10M": 1.7e7, "100M": 6.3e7}
        good = all(1 / 1.6 < medians[c] / published[c] < 1.6 for c in published)
        return [Claim(
            name="median dimensions", statement="median number of parameters of the size classes",
            source=f"{PAPER}, configuration sampling", published=", ".join(f"{c} {v:.2g}" for c, v in
            published.items()), ours=", ".join(f"{c} {v:.2g}" for c, v in medians.items()), n=600,
            verdict=REPRODUCED if good else NOT_REPRODUCED, reason="within a factor 1.6: 100 skewed draws each",
        )]  # fmt: skip


@figure("fig16", source=f"{PAPER}, exact values of random networks (F16)")
class TheoryOfRandomNetworks:
    """Exact learning coefficient and multiplicity of 1000 random deep linear networks of 2 to 799 layers against their
    number of layers. No training."""

    def runs(self, scale: str) -> list[Config]:
        return []

    def draw(self, runs: Runs) -> Drawing:
        random = np.random.RandomState(0)  # the generator and the order of draws of the original script
        rows = []
        for _ in range(1000):
            layers = random.randint(2, 800)
            hidden = random.randint(100, 2000, size=layers)
            widths = (random.randint(100, 2000), *hidden)
            rank = random.randint(0, min(widths))
            value, multiplicity = dln_learning_coefficient(widths, rank)
            rows.append({"layers": layers, "rank": rank, "exact": float(value), "multiplicity": multiplicity})
        table = pd.DataFrame(rows)
        fig, axes = plt().subplots(1, 2, figsize=(7.4, 2.9))
        axes[0].plot(table.layers, table.exact, ".", color=BLUE, ms=3, mew=0)
        axes[1].plot(table.layers, table.multiplicity, ".", color=BLUE, ms=3, mew=0)
        axes[0].set(xlabel="layers", ylabel=r"learning coefficient $\lambda$", yscale="log")
        axes[1].set(xlabel="layers", ylabel="multiplicity $m$", yscale="log")
        return Drawing(fig, table)


@figure("fig17", source=f"{PAPER}, constant width (F17)")
class TheoryOfConstantWidth:
    """Exact learning coefficient and multiplicity of deep linear networks of constant width 100, rank 0. Theory."""

    def runs(self, scale: str) -> list[Config]:
        return []

    def draw(self, runs: Runs) -> Drawing:
        rows = []
        for layers in range(2, 120):
            value, multiplicity = dln_learning_coefficient((100,) * (layers + 1), 0)
            rows.append({"layers": layers, "exact": float(value), "multiplicity": multiplicity})
        table = pd.DataFrame(rows)
        fig, axes = plt().subplots(1, 2, figsize=(7.4, 2.9))
        axes[0].plot(table.layers, table.exact, ".-", color=BLUE, ms=4, lw=0.8)
        axes[1].plot(table.layers, table.multiplicity, ".-", color=BLUE, ms=4, lw=0.8)
        axes[0].set(xlabel="layers", ylabel=r"learning coefficient $\lambda$", ylim=(2000, None))
        axes[1].set(xlabel="layers", ylabel="multiplicity $m$", ylim=(0, None))
        return Drawing(fig, table)

    def claims(self, runs: Runs) -> list[Claim]:
        ours = [dln_learning_coefficient((100,) * (n + 1), 0) for n in (2, 3, 4, 5)]
        values, multiplicities = [float(v) for v, _ in ours], [m for _, m in ours]
        ones = [n for n in (20, 25, 50, 100) if dln_learning_coefficient((100,) * (n + 1), 0).multiplicity == 1]
        good = values == [3750, 3333.5, 3125, 3000] and multiplicities == [1, 3, 1, 1] and len(ones) == 4
        return [Claim(
            name="constant width 100", statement="learning coefficient and multiplicity at 2, 3, 4, 5 layers",
            source=f"{PAPER}, F17", published="3750, 3333.5, 3125, 3000; m = 1, 3, 1, 1; m = 1 at 20, 25, 50, 100",
            ours=f"{', '.join(f'{v:g}' for v in values)}; m = {', '.join(map(str, multiplicities))}; m = 1 at"
            f" {', '.join(map(str, ones))}", verdict=REPRODUCED if good else NOT_REPRODUCED, n=4,
        )]  # fmt: skip


@figure("volume", source=f"{PAPER}, volume scaling")
class VolumeScaling:
    """The learning coefficient as an exponent of volume: the share of parameters with loss below a level scales like
    its power, 1/2 for a quadratic minimum, 1/4 for a quartic one. No training."""

    def runs(self, scale: str) -> list[Config]:
        return []

    def draw(self, runs: Runs) -> Drawing:
        fig, axes = plt().subplots(1, 3, figsize=(7.4, 2.3), sharey=True)
        x, rows = np.linspace(-1.45, 1.45, 401), []
        for ax, (name, curve, inverse) in zip(axes, (
            (r"$x^2/2$", lambda x: x**2 / 2, lambda e: math.sqrt(2 * e)),
            (r"$x^2$", lambda x: x**2, math.sqrt),
            (r"$x^4$", lambda x: x**4, lambda e: e**0.25),
        ), strict=True):  # fmt: skip
            ax.plot(x, curve(x), color="black")
            for level, color in ((0.5, ORANGE), (0.1, BLUE)):
                half = inverse(level)
                ax.plot([-half, half], [level, level], color=color, lw=2.5, label=f"level {level}: {2 * half:.2f}")
                rows.append({"loss": name, "level": level, "volume": 2 * half})
            ax.set(title=name, xlabel="$x$", ylim=(0, 1.0))
            ax.legend(loc="upper center")
        axes[0].set_ylabel("loss")
        return Drawing(fig, pd.DataFrame(rows))
