"""Figure 18: a ResNet18 on CIFAR-10 under implicit and explicit regularisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.analysis.learning_coefficient.common import (
    PAPER,
    RESNET,
    _verdict,
    plt,
)
from reprod.config import Config, at_scale
from reprod.figures.figure import NOT_COMPARABLE, Claim, Drawing, Runs, figure
from reprod.figures.style import shades
from reprod.learning_coefficient.config import (
    ResnetLlcCurve,
)

if TYPE_CHECKING:
    pass

TRAINED = 0.5  # training loss, in nats, below which the networks of a sweep are compared; the published ones are near 0


CURVES = ("iteration", "llc", "test_accuracy", "train_loss")


class ResnetSweep:
    """Rows of three panels (estimate, test accuracy, training loss) along training, one colour per value."""

    parameter = ""
    label = ""
    values: dict[str, Sequence[float]] = {}
    common: dict[str, Any] = {}
    paper_only: dict[str, Any] = {}
    small_only: dict[str, Any] = {}
    rows: Sequence[tuple[str, dict[str, Any]]] = (("", {}),)  # (title, settings): several rows in one figure
    falling = True  # the paper's claim: the final estimate falls with the parameter

    def runs(self, scale: str) -> list[Config]:
        seeds = tuple(range(5)) if scale == "paper" else (0,)
        extra = self.paper_only if scale == "paper" else self.small_only if scale == "small" else {}
        rows = self.rows if scale == "paper" else self.rows[:1]
        return [
            at_scale(ResnetLlcCurve, scale, seeds=seeds, **{**self.common, **extra, **settings, self.parameter: value})
            for _, settings in rows
            for value in self.values[scale]
        ]

    def draw(self, runs: Runs) -> Drawing:
        rows = [(title, settings) for title, settings in self.rows if len(runs.where(**settings))]
        fig, axes = plt().subplots(len(rows), 3, figsize=(8.6, 2.6 * len(rows)), squeeze=False)
        table = []
        for line, (title, settings) in zip(axes, rows, strict=True):
            chosen = list(runs.where(**settings))
            for (config, records), color in zip(chosen, shades(len(chosen)), strict=True):
                value = getattr(config, self.parameter)
                tables = [r.table("curve") for r in records]
                curves = {n: np.stack([t[n].to_numpy() for t in tables]) for n in CURVES}
                steps = curves["iteration"][0]
                kept = steps > min(100, steps[-1] / 10)
                for ax, name in zip(line, ("llc", "test_accuracy", "train_loss"), strict=True):
                    values = curves[name][:, kept]
                    if name == "llc":
                        values = np.where((values >= 0) & (values < 1e8), values, np.nan)
                    x, mean = steps[kept], _nanmean(values)
                    ax.plot(x, mean, "o-", ms=3, color=color, label=f"{value:g}")
                    if len(values) > 1:
                        half = 1.96 * np.nanstd(values, axis=0, ddof=1) / math.sqrt(len(values))
                        ax.fill_between(x, mean - half, mean + half, color=color, alpha=0.2, lw=0)
                for record, *columns in zip(records, *(curves[n] for n in curves), strict=True):
                    table += [
                        {
                            self.parameter: value,
                            **settings,
                            "seed": record.seed,
                            **dict(zip(curves, point, strict=True)),
                        }
                        for point in zip(*columns, strict=True)
                    ]
            line[0].set(ylabel=r"estimate $\hat\lambda$")
            line[1].set(ylabel="test accuracy", title=title)
            line[2].set(ylabel="training loss (minibatch)")
            for ax in line:
                ax.set_xlabel("training step")
            line[2].legend(title=self.label)
        hidden = int(sum(1 for row in table if not 0 <= row["llc"] < 1e8))
        remark = f"{hidden} of {len(table)} estimates are negative (not at a minimum) and not drawn" if hidden else ""
        return Drawing(fig, pd.DataFrame(table), remark)

    def claims(self, runs: Runs) -> list[Claim]:
        claims = []
        for title, settings in self.rows:
            chosen = list(runs.where(**settings))
            if len(chosen) < 2:
                continue
            values = np.array([getattr(c, self.parameter) for c, _ in chosen], dtype=float)
            final = np.array([np.mean([r.table("curve").llc.iloc[-1] for r in records]) for _, records in chosen])
            known = np.isfinite(final)  # pandas would leave the others out of the correlation without a word
            order = float(pd.Series(values[known]).corr(pd.Series(final[known]), method="spearman"))
            wanted = -1 if self.falling else 1
            verdict, reason = _verdict(runs, order * wanted >= 0.8, enough=known.sum() >= 4)
            losses = [float(np.mean([r.table("curve").train_loss.iloc[-1] for r in records])) for _, records in chosen]
            if runs.scale == "small" and max(losses) > TRAINED:
                verdict = NOT_COMPARABLE
                reason = f"not all are trained yet: training losses {min(losses):.2f} to {max(losses):.2f}"
            elif not known.all():
                reason = f"{(~known).sum()} of {len(known)} values have no estimate: every chain diverged"
            elif (final < 0).any():
                reason = "a negative estimate: the network is not yet at a minimum"
            word = "falls" if self.falling else "rises"
            claims.append(Claim(
                name=f"estimate {word} with {self.label}{f', {title}' if title else ''}",
                statement=f"the final estimate {word} monotonically with {self.label}", source=f"{PAPER}, F18",
                published=f"monotone (rank correlation {wanted})",
                ours=f"rank correlation {order:+.2f}: " + ", ".join(f"{v:g}: {f:.0f}" for v, f in zip(values, final,
                strict=True)), verdict=verdict, reason=reason, value=order, n=sum(len(r) for _, r in chosen),
                run_ids=runs.ids,
            ))  # fmt: skip
        return claims


def _nanmean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(values.shape[1], np.nan), where=known.any(axis=0))


@figure("fig18_momentum", source=f"{PAPER}, implicit regularisation (F18)", experiments=RESNET)
class MomentumSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 by momentum of SGD."""

    parameter, label = "momentum", "momentum"
    values = {"paper": tuple(i / 10 for i in range(10)), "small": (0.0, 0.3, 0.6, 0.9), "smoke": (0.0, 0.9)}
    paper_only = {"learning_rate": 0.05, "iterations": 20_001}


@figure("fig18_learning_rate", source=f"{PAPER}, implicit regularisation (F18)", experiments=RESNET)
class LearningRateSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 by learning rate."""

    parameter, label = "learning_rate", "learning rate"
    values = {"paper": (0.005, 0.01, 0.05, 0.1, 0.2), "small": (0.01, 0.02, 0.05, 0.2), "smoke": (0.01, 0.1)}
    rows = (("no momentum", {"momentum": 0.0}), ("momentum 0.9", {"momentum": 0.9}))


@figure("fig18_batch_size", source=f"{PAPER}, implicit regularisation (F18)", experiments=RESNET)
class BatchSizeSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 under different batch sizes."""

    parameter, label, falling = "batch_size", "batch size", False
    values = {"paper": (16, 32, 64, 128, 256, 512, 1024), "small": (16, 32, 64, 128), "smoke": (16, 32)}
    paper_only = {"iterations": 100_001, "eval_every": 2500}
    rows = (("no momentum", {"momentum": 0.0}), ("momentum 0.9", {"momentum": 0.9}))


L2 = (0.0, 0.01, 0.025, 0.05, 0.075, 0.1)


@figure("fig18_l2", source=f"{PAPER}, explicit regularisation (F18)", experiments=RESNET)
class L2Sweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 under L2 regularisation; in the
    paper 0.01 raises the estimate, and strengths from 0.05 lower it."""

    parameter, label = "l2", "L2 strength"
    values = {"paper": L2, "small": (0.0, 0.01, 0.05, 0.1), "smoke": (0.0, 0.1)}
    paper_only = {
        "learning_rate": 5e-4, "momentum": 0.9, "step_size": 5e-8, "iterations": 15_001, "eval_every": 500
    }  # fmt: skip
    small_only = {"learning_rate": 5e-3, "momentum": 0.9}


@figure("fig18_l2_no_momentum", source=f"{PAPER}, explicit regularisation (F18)", experiments=RESNET)
class L2NoMomentumSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 under L2 regularisation without
    momentum."""

    parameter, label = "l2", "L2 strength"
    values = {"paper": L2, "small": (0.0, 0.01, 0.05, 0.1), "smoke": (0.0, 0.1)}
    paper_only = {"learning_rate": 1e-3, "step_size": 5e-8, "iterations": 50_001}
    small_only = {"learning_rate": 5e-3}


@figure("fig18_model_size", source="original repository, not in the paper (F18)", experiments=RESNET)
class ModelSizeSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of ResNet18 of different widths on CIFAR-10, estimated
    against each network's own predictions."""

    parameter, label, falling = "width", "width", False
    values = {"paper": (1, 2, 4, 8, 10, 20, 64, 128), "small": (1, 2, 4, 8), "smoke": (1, 2)}
    common = {"force_realisable": True}
    paper_only = {"learning_rate": 0.8, "batch_size": 128, "iterations": 100_001, "eval_every": 25_000}
