"""Figures 5, 6, 11 and 12: what the chains of figure 1 did, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reprod.analysis.learning_coefficient.common import (
    DLN,
    PAPER,
    blocks,
    nets,
    plt,
    size,
    spread,
)
from reprod.config import Config
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import BLUE, RED, shades

if TYPE_CHECKING:
    pass


@figure("fig5", source=f"{PAPER}, loss traces (F5)", experiments=DLN)
class LossTraces:
    """Minibatch loss along SGLD of ten networks (pale), with its running mean; the first chain of each."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        records = spread(runs.records, 10)
        fig, ax = plt().subplots(figsize=(6.4, 3.2))
        rows = []
        for record, color in zip(records, shades(len(records)), strict=True):
            trace = np.asarray(record.array("loss_trace")[0], dtype=float)
            steps, means = blocks(trace, 100)
            ax.plot(np.arange(1, len(trace) + 1)[:: max(1, len(trace) // 2000)], trace[:: max(1, len(trace) // 2000)],
                    color=color, lw=0.3, alpha=0.25)  # fmt: skip
            ax.plot(steps, means, color=color, lw=1.2)
            rows += [
                {"run": record.name, "seed": record.seed, "step": s, "loss": v}
                for s, v in zip(steps, means, strict=True)
            ]
        ax.set(xlabel="SGLD step", ylabel="minibatch loss", xlim=(0, None))
        return Drawing(fig, pd.DataFrame(rows), "the table holds the running means")


@figure("fig6", source=f"{PAPER}, acceptance traces (F6)", experiments=DLN)
class AcceptanceTraces:
    """Metropolis acceptance probability of the SGLD steps of five networks, on the batch of each step: running means,
    with single records in the back."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        records = spread(runs.records, 5)
        fig, ax = plt().subplots(figsize=(6.4, 2.8))
        rows = []
        for record, color in zip(records, shades(len(records)), strict=True):
            steps = np.asarray(record.array("llc_acceptance_steps"))
            values = np.asarray(record.array("llc_acceptance")[0], dtype=float)
            ax.plot(steps, values, ".", ms=4, color=color, alpha=0.3, mew=0)
            ends, means = blocks(values, 40)
            name = f"D = {record.metrics['network/parameters']:.0f}: mean {np.nanmean(values):.3f}"
            ax.plot(steps[ends - 1], means, color=color, label=name)
            rows += [{"run": record.name, "seed": record.seed, "step": s, "acceptance": v}
                     for s, v in zip(steps, values, strict=True)]  # fmt: skip
        ax.set(xlabel="SGLD step", ylabel="acceptance probability", ylim=(None, 1.02), xlim=(0, None))
        ax.legend(loc="lower left")
        return Drawing(fig, pd.DataFrame(rows))


@figure("fig11", source=f"{PAPER}, diverged chains (F11)", experiments=DLN)
class FirstDivergence:
    """Step at which the diverged chains left the finite numbers. Such chains enter no estimate."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        rows, chains = [], 0
        for record in runs.records:
            trace = np.asarray(record.array("loss_trace"))
            chains += len(trace)
            for c, bad in enumerate(~np.isfinite(trace)):
                if bad.any():
                    rows.append({"run": record.name, "seed": record.seed, "chain": c, "step": int(bad.argmax())})
        table = pd.DataFrame(rows, columns=["run", "seed", "chain", "step"])
        fig, ax = plt().subplots(figsize=(4.4, 2.6))
        if len(table):
            ax.hist(table.step, 20, color=RED)
        else:
            ax.text(0.5, 0.5, f"none of {chains} chains diverged", transform=ax.transAxes, ha="center", va="center")
            ax.set(xticks=[], yticks=[])
        ax.set(xlabel="SGLD step of the first non-finite loss", ylabel="chains")
        return Drawing(fig, table, f"{len(table)} of {chains} chains diverged")


@figure("fig12", source=f"{PAPER}, traces and acceptance by class (F12)", experiments=DLN)
class TracesByClass:
    """Loss trace (blue, running mean over the minibatch losses) and acceptance probability (red) of one network of each
    class."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        chosen = [(c.size_class, sorted(records, key=size)[len(records) // 2]) for c, records in runs if records]
        fig, axes = plt().subplots(len(chosen), 1, figsize=(6.4, 2.2 * len(chosen)), squeeze=False)
        rows = []
        for ax, (name, record) in zip(axes[:, 0], chosen, strict=True):
            trace = np.asarray(record.array("loss_trace")[0], dtype=float)
            steps = np.asarray(record.array("llc_acceptance_steps"))
            values = np.asarray(record.array("llc_acceptance")[0])
            ends, means = blocks(trace, 200)
            ax.plot(np.arange(1, len(trace) + 1), trace, color=BLUE, lw=0.2, alpha=0.3)
            ax.plot(ends, means, color=BLUE)
            ax.set(ylabel="minibatch loss", xlim=(0, len(trace)), ylim=(0, None))
            ax.set_title(f"class {name}: D = {size(record):.0f}, mean acceptance {np.nanmean(values):.3f}")
            other = ax.twinx()
            other.plot(steps, values, "x", ms=2.5, color=RED, alpha=0.5)
            other.set(ylabel="acceptance", ylim=(0, 1.05))
            other.grid(visible=False)
            rows += [{"size_class": name, "step": s, "loss": v} for s, v in zip(ends, means, strict=True)]
        axes[-1, 0].set_xlabel("SGLD step")
        return Drawing(fig, pd.DataFrame(rows))
