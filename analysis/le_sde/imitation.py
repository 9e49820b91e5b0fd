"""Figure 5: the LE-ODE driven by measured strengths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import COLOURS, PAPER, Array, holds, letter, near, plot_grid, too_small
from reprod.config import Config, at_scale
from reprod.figures import style
from reprod.figures.figure import Claim, Drawing, Runs, figure
from reprod.le_sde import estimate
from reprod.le_sde.config import (
    CifarDynamics,
    GeomnistDynamics,
    LeOdeSimulation,
)


@figure("fig5", source=f"{PAPER}, figure 5", experiments=("le_ode_simulation",))
class Imitation:
    """The three logits of class 0: real (dots) and imitated by the LE-ODE with estimated strengths. Thick lines: as
    published, the mean of Gaussian starts under Euler and the L-drift, rescaled by one factor that matches one
    component's end; thin bars: deviation over starts, not rescaled. Dashed: our variant, from the measured means at
    iteration 0 under the exponential integrator and the model that was estimated, nothing rescaled."""

    PANELS = (("geomnist", "I", 1), ("geomnist", "L", 0), ("cifar10", "I", 0), ("cifar10", "L", 0))

    def runs(self, scale: str) -> list[Config]:
        datasets = ("geomnist", "cifar10")
        trainings: list[Config] = [at_scale(GeomnistDynamics, scale), at_scale(CifarDynamics, scale)]
        published = [at_scale(LeOdeSimulation, scale, dataset=d, estimator=e) for d in datasets for e in "IL"]
        variant = {"integrator": "exponential", "start": "measured"}
        ours = [
            at_scale(LeOdeSimulation, scale, dataset=d, estimator=e, drift=model, **variant)
            for d in datasets
            for e, model in (("I", "I"), ("modes", "L"))
        ]
        return [*trainings, *published, *ours]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        simulations = runs.of("le_ode_simulation")
        fig, axes = plt.subplots(2, 2, figsize=(7.2, 5.4))
        rows = []
        for ax, name, (dataset, model, aligned) in zip(axes.ravel(), "abcd", self.PANELS, strict=True):
            published, ours = panel(simulations, dataset, model)
            real, grid = np.asarray(published.array("real"))[:, 0], plot_grid(len(published.array("real")))
            factor = scale_factor(published, aligned)
            mean, bars = (
                np.asarray(published.array("mean"))[:, 0] * factor,
                np.asarray(published.array("deviation"))[:, 0],
            )
            variant = np.asarray(ours.array("mean"))[:, 0]
            at = np.linspace(0, len(mean) - 1, 20).astype(int)
            for j, colour in enumerate(COLOURS):
                ax.plot(grid, real[grid, j], ".", color=colour, alpha=0.1, ms=2, rasterized=True)
                ax.plot(grid, mean[grid, j], color=colour, lw=1.9, label=rf"$\bar X^0_{j}$")
                ax.errorbar(at, mean[at, j], bars[at, j], fmt="none", ecolor=colour, elinewidth=0.6, capsize=1.5)
                ax.plot(grid[::20], variant[grid[::20], j], color=colour, lw=1, ls="--")
                rows += [
                    [
                        dataset,
                        model,
                        j,
                        int(t),
                        float(real[t, j]),
                        float(mean[t, j]),
                        float(bars[t, j]),
                        float(variant[t, j]),
                    ]
                    for t in grid[::40]
                ]
            reach = 1.7 * np.nanpercentile(np.abs(real), 99.8)
            ax.set(ylim=(-reach, reach), xlabel="t", ylabel=r"$\bar X^0(t)$")
            label = "GeoMNIST" if dataset == "geomnist" else "CIFAR-10, K = 3"
            letter(ax, f"{name}  {label}, {model}")
            white = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1}
            ax.text(0.98, 0.03, f"factor {factor:.3g}", transform=ax.transAxes, ha="right", fontsize=7, bbox=white)
        axes[1, 0].plot([], [], ".", color=style.GREY, ms=4, label="real")
        axes[1, 0].plot([], [], color=style.GREY, lw=1.9, label="as published")
        axes[1, 0].plot([], [], color=style.GREY, lw=1, ls="--", label="our variant")
        axes[1, 0].legend(loc="lower left", ncols=2, fontsize=7)
        columns = ["dataset", "estimator", "logit", "t", "real", "published", "deviation", "variant"]
        remarks = "the published mean is Monte-Carlo noise: zero in expectation, blown up by the factor in the corner"
        return Drawing(fig, pd.DataFrame(rows, columns=columns), remarks)

    def claims(self, runs: Runs) -> list[Claim]:
        source = f"{PAPER}, figure 5"
        if runs.scale == "smoke":
            return too_small(runs, source, "the LE-ODE imitates the real class means")
        simulations = runs.of("le_ode_simulation")
        rows = []
        published_real = {"geomnist": ((8.8, -5.5, -2.6), 1.0), "cifar10": ((1.4, -0.6, -0.75), 0.4)}
        for dataset, (values, tolerance) in published_real.items():
            published, _ = panel(simulations, dataset, "I")
            tail = np.nanmean(np.asarray(published.array("real"))[-estimate.TAIL :, 0], axis=0)
            for j, value in enumerate(values):
                rows.append(
                    near(
                        runs,
                        f"real {dataset} {j}",
                        f"{dataset}: real mean logit {j} of class 0 at the end",
                        value,
                        tolerance,
                        float(tail[j]),
                        source=source,
                        ids=[published.id],
                    )
                )
        for dataset, model, aligned in self.PANELS:
            published, ours = panel(simulations, dataset, model)
            factor = scale_factor(published, aligned)
            for kind, record, sign in (
                ("as published", published, math.copysign(1, factor)),
                ("our variant", ours, 1.0),
            ):
                cosine, growth_ratio = sign * shape_cosine(record), size_ratio(record)
                about = (
                    f"rescaled by {factor:.3g}"
                    if record is published
                    else f"size {growth_ratio:.2f} of the real one, nothing rescaled"
                )
                rows.append(
                    holds(
                        runs,
                        f"shape {dataset} {model} {kind}",
                        f"{dataset}, {model}, {kind}: imitated logits of class 0 have the real shape (cosine)",
                        "> 0.9",
                        f"{cosine:.3f}",
                        cosine > 0.9,
                        value=cosine,
                        source=source,
                        ids=[record.id],
                        reason=about,
                    )
                )
        return rows


def panel(simulations: Runs, dataset: str, model: str) -> tuple[Any, Any]:
    """The published simulation and our variant of one panel."""
    of = simulations.where(dataset=dataset)
    ((_, (published, *_)),) = of.where(estimator=model, start="gaussian")
    ((_, (ours, *_)),) = of.where(estimator="I" if model == "I" else "modes", start="measured")
    return published, ours


def _ends(record: Any) -> tuple[Array, Array]:
    """Simulated and real logits (3,) of class 0, means over the tail."""
    tail = slice(-estimate.TAIL, None)
    return np.asarray(record.array("mean"))[tail, 0].mean(axis=0), np.nanmean(
        np.asarray(record.array("real"))[tail, 0], axis=0
    )


def scale_factor(record: Any, component: int) -> float:
    simulated, real = _ends(record)
    return float(real[component] / simulated[component])


def shape_cosine(record: Any) -> float:
    simulated, real = _ends(record)
    return float(simulated @ real / (np.linalg.norm(simulated) * np.linalg.norm(real)))


def size_ratio(record: Any) -> float:
    simulated, real = _ends(record)
    return float(np.linalg.norm(simulated) / np.linalg.norm(real))
