"""Figures 10, 16, 17 and the cartoon of volumes: no training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.learning_coefficient.common import PAPER, histogram, plt
from reprod.config import Config
from reprod.figures.claims import PRINTED, All, Claim, Equals, Exact, bootstrap, our_limit, read_off
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import BLUE, ORANGE
from reprod.learning_coefficient.exact import dln_dimension, dln_learning_coefficient
from reprod.learning_coefficient.sizes import SIZE_CLASSES, sample_widths


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

    def claims(self, runs: Runs) -> Iterator[Claim]:
        published = {"1K": 2.0e3, "10K": 1.3e4, "100K": 3.8e5, "1M": 3.0e6, "10M": 1.7e7, "100M": 6.3e7}
        yield All(
            name="median dimensions", statement="median number of parameters of the size classes",
            source=f"{PAPER}, configuration sampling",
            published=", ".join(f"{c} {v:.2g}" for c, v in published.items()),
            basis=our_limit("within a factor of 1.6 of the medians that the original generator gave in 100 draws"),
            parts=[
                Equals(
                    name=c, statement=f"median number of parameters of class {c}, decades", source=PAPER,
                    published=f"{v:.2g}", basis=our_limit("a factor of 1.6"), paper_n=100,
                    samples=bootstrap(decades_of(c), np.median), target=math.log10(v), tolerance=math.log10(1.6),
                    why="the published are medians of 100 skewed draws",
                )
                for c, v in published.items()
            ],
        )  # fmt: skip


def decades_of(size_class: str, networks: int = 1000) -> np.ndarray:
    """Logarithms of the numbers of parameters of the first networks of a class."""
    return np.log10([dln_dimension(sample_widths(size_class, i)) for i in range(networks)])


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

    def claims(self, runs: Runs) -> Iterator[Claim]:
        def constant_width(layers: int) -> tuple[float, int]:
            value, multiplicity = dln_learning_coefficient((100,) * (layers + 1), 0)
            return float(value), multiplicity

        few, arches = (2, 3, 4, 5), (20, 25, 50, 100)
        shared: dict[str, Any] = {"source": f"{PAPER}, F17", "basis": PRINTED}
        yield Exact(
            name="learning coefficient", statement="learning coefficient at constant width 100 and 2, 3, 4, 5 layers",
            published="3750, 3333.5, 3125, 3000", value=[constant_width(n)[0] for n in few],
            target=(3750, 3333.5, 3125, 3000), fmt="g", **shared,
        )  # fmt: skip
        yield Exact(
            name="multiplicity", statement="multiplicity at 2, 3, 4, 5 layers, and at 20, 25, 50, 100",
            published="1, 3, 1, 1; 1 at 20, 25, 50, 100", value=[constant_width(n)[1] for n in (*few, *arches)],
            target=(1, 3, 1, 1, 1, 1, 1, 1), fmt="g", **shared,
        )  # fmt: skip
        yield Exact(
            name="plateau", statement="with many layers (100) the learning coefficient comes to a plateau",
            source=f"{PAPER}, F17", published="about 2525", basis=read_off("25"), value=constant_width(100)[0],
            target=2525, rounding=25, fmt="g",
        )  # fmt: skip


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
