"""Figure 13: saddle-to-saddle dynamics, the staircase of the estimate and its closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.analysis.learning_coefficient.common import (
    PAPER,
    SADDLE,
    _verdict,
    plt,
)
from reprod.config import Config, at_scale
from reprod.figures.figure import Claim, Drawing, Runs, figure
from reprod.figures.style import BLUE, GREEN, GREY, PURPLE
from reprod.learning_coefficient.config import (
    DlnSaddleDynamics,
)
from reprod.learning_coefficient.exact import (
    staircase_loss,
    staircase_plateau,
)

if TYPE_CHECKING:
    pass


def _saddles(scale: str) -> list[Config]:
    if scale == "smoke":
        return [at_scale(DlnSaddleDynamics, scale, seeds=(0,))]
    seeds = (0, 42)
    configs: list[Config] = [at_scale(DlnSaddleDynamics, scale, width=w, seeds=seeds) for w in (10, 100)]
    if scale == "paper":
        configs.append(at_scale(DlnSaddleDynamics, scale, width=500, iterations=50_000, eval_every=100, seeds=seeds))
    return configs


def _plateau_values(config: Any) -> list[float]:
    """Closed-form expectation of the estimate with 0, 1, ... learned singular values."""
    d, m = config.in_out_dim, config.sgld_batch_size
    steps = config.sgld_steps
    if config.whole_epochs and config.sampler == "minibatch":
        per_epoch = config.n_train // m
        steps = -(-steps // per_epoch) * per_epoch
    return [
        staircase_plateau(
            r, singular_values=[10.0 * (i + 1) for i in range(d)], layers=config.hidden_layers + 1,
            nbeta=config.n_train / math.log(config.n_train), gamma=config.gamma, step_size=config.step_size,
            num_steps=steps, trace=config.trace,
        )
        for r in range(d + 1)
    ]  # fmt: skip


def _learned(losses: np.ndarray, dim: int) -> np.ndarray:
    """Number of learned singular values where the loss rests at a plateau, -1 elsewhere."""
    plateaus = [staircase_loss(r, [10.0 * (i + 1) for i in range(dim)]) for r in range(dim)]
    found = np.full(len(losses), -1)
    for r, level in enumerate(plateaus):
        found[np.abs(losses - level) < 0.12 * level] = r
    # A plateau is rest: the loss of the neighbouring records is there too (minibatch noise allowed).
    logs = np.log(np.maximum(losses, 1e-12))
    calm = np.array([np.ptp(logs[max(0, i - 2) : i + 3]) < 0.3 for i in range(len(losses))])
    found[~calm] = -1
    found[losses < 0.02] = dim
    return found


@figure("fig13", source=f"{PAPER}, saddle-to-saddle dynamics (F13)", experiments=SADDLE)
class Staircase:
    """Training loss (blue, left axis) of deep linear networks started from small weights, and the estimate at the
    student's own outputs (crosses, right axis) with its running mean over ten records. Dashed: the closed-form
    expectation of the estimate, step-size bias included, with 0 to 5 singular values learned."""

    def runs(self, scale: str) -> list[Config]:
        return _saddles(scale)

    def draw(self, runs: Runs) -> Drawing:
        found = [(config, record) for config, records in runs for record in records]
        columns = min(2, len(found))
        rows = -(-len(found) // columns)
        fig, axes = plt().subplots(rows, columns, figsize=(4.6 * columns, 2.7 * rows), squeeze=False)
        table = []
        for ax, (config, record) in zip(axes.flat, found, strict=False):
            curve = record.table("curve")
            step, loss, llc = (curve[n].to_numpy() for n in ("iteration", "train_loss", "llc"))
            ax.plot(step, np.maximum(loss, 1e-12), color=BLUE)
            ax.set(yscale="log", xlabel="training step", xlim=(0, step[-1]))
            ax.set_ylabel("training loss", color=BLUE)
            ax.set_title(f"{config.hidden_layers} hidden layers of {config.width}, seed {record.seed}")
            other = ax.twinx()
            other.grid(visible=False)
            for level in _plateau_values(config):
                other.axhline(level, color=GREY, ls="--", lw=0.6)
            clipped = np.clip(llc, 0, None)
            other.plot(step, clipped, "x", color="black", ms=3, alpha=0.3, mew=0.7)
            other.plot(step, _running_mean(clipped), color=GREEN)
            other.set_ylabel(r"estimate $\hat\lambda$", color=GREEN)
            other.set_ylim(0, 1.15 * max(15.0, float(np.nanmax(clipped, initial=0))))
            names = {"width": config.width, "seed": record.seed}
            table.append(curve[["iteration", "train_loss", "llc"]].assign(**names))
        for ax in axes.flat[len(found) :]:
            ax.set_visible(False)
        return Drawing(fig, pd.concat(table)[["width", "seed", "iteration", "train_loss", "llc"]])

    def claims(self, runs: Runs) -> list[Claim]:
        claims = []
        published = {0: "about 0", 1: "4.7 to 5", 2: "8.5"}
        collected: dict[int, list[float]] = {}
        expected: list[float] = []
        for config, records in runs:
            expected = _plateau_values(config)
            for record in records:
                curve = record.table("curve")
                loss, llc = curve.train_loss.to_numpy(), curve.llc.to_numpy()
                learned = _learned(loss, config.in_out_dim)
                for r in range(config.in_out_dim + 1):
                    if (learned == r).sum() >= 3:
                        collected.setdefault(r, []).append(float(llc[learned == r].mean()))
        for r, means in sorted(collected.items()):
            value = float(np.mean(means))
            wanted = expected[r]
            half = 1.96 * float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.nan
            verdict, reason = _verdict(runs, abs(value - wanted) <= max(0.5, 0.06 * wanted))
            spoken = f"; the paper shows {published[r]}" if r in published else ""
            claims.append(Claim(
                name=f"staircase, {r} learned", statement=f"the estimate rests at a plateau, {r} learned",
                source=f"{PAPER}, F13", published=f"{wanted:.2f} (closed form for these settings{spoken})",
                ours=f"{value:.2f} (mean of {len(means)} runs)", verdict=verdict, reason=reason, value=value,
                interval=(value - half, value + half), n=len(means), run_ids=runs.ids,
            ))  # fmt: skip
        order = [np.mean(collected[r]) for r in sorted(collected)]
        rising = len(order) > 1 and bool(np.all(np.diff(order) > 0))
        verdict, reason = _verdict(runs, rising, enough=len(order) > 2)
        claims.append(Claim(
            name="staircase climbs", statement="the estimate climbs with every learned singular value",
            source=f"{PAPER}, F13", published="0, 4.7 to 5, 8.5, higher", ours=", ".join(f"{v:.2f}" for v in order),
            verdict=verdict, reason=reason, n=len(order), run_ids=runs.ids,
        ))  # fmt: skip
        return claims


def _running_mean(values: np.ndarray, window: int = 10) -> np.ndarray:
    """Mean over ten records, five behind and four ahead, with the ends reflected."""
    if len(values) <= window:
        return values
    padded = np.pad(values, (window // 2, window - window // 2 - 1), mode="reflect")
    return np.convolve(padded, np.full(window, 1 / window), mode="valid")


@figure("fig13b", source=f"{PAPER}, saddle-to-saddle dynamics (F13, theory)", experiments=SADDLE)
class StaircaseTheory:
    """The exact learning coefficient, numerical rank of the product and multiplicity along the first run of F13: theory
    at the current rank does not move, only the estimate does."""

    def runs(self, scale: str) -> list[Config]:
        return _saddles(scale)[:1]

    def draw(self, runs: Runs) -> Drawing:
        record = runs.records[0]
        table = record.table("curve")[["iteration", "exact", "rank", "multiplicity"]]
        fig, axes = plt().subplots(3, 1, figsize=(5.0, 4.0), sharex=True)
        for ax, name in zip(axes, ("exact", "rank", "multiplicity"), strict=True):
            ax.plot(table.iteration, table[name], color=PURPLE)
            ax.set(ylabel={"exact": r"exact $\lambda$", "rank": "rank", "multiplicity": "$m$"}[name])
            ax.set(ylim=(0, 1.3 * table[name].max()))
        axes[-1].set(xlabel="training step", xlim=(0, table.iteration.iloc[-1]))
        return Drawing(fig, table)
