"""Figure 18: a ResNet18 on CIFAR-10 under implicit and explicit regularisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.learning_coefficient.common import PAPER, RESNET, plt
from reprod.config import Config, at_scale
from reprod.figures.alter import Case, altered
from reprod.figures.claims import All, AtLeast, AtMost, Claim, Ordered, interval, read_off
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import shades
from reprod.learning_coefficient.config import ResnetLlcCurve

CURVES = ("iteration", "llc", "test_accuracy", "train_loss")
SEEDS = {"paper": (0, 1, 2, 3, 4), "medium": (0, 1, 2), "small": (0,), "smoke": (0,)}
DECIDES: dict[str, Any] = {
    "scales": ("paper", "medium"),
    "elsewhere": "after 1201 steps, some of the narrow networks do not fit their images yet, and a seed is no sample",
}


def valid(llc: Any) -> Any:
    """An estimate that the paper would draw: a negative one says that the parameters are at no minimum."""
    llc = np.asarray(llc, dtype=float)
    return (llc >= 0) & (llc < 1e8)


class ResnetSweep:
    """Rows of three panels (estimate, test accuracy, training loss) along training, one colour per value."""

    scales = ("paper", "medium", "small", "smoke")
    parameter = ""
    label = ""
    values: Mapping[str, Sequence[float]] = {}
    settings: Mapping[str, Mapping[str, Any]] = {}  # per scale
    rows: Sequence[tuple[str, dict[str, Any]]] = (("", {}),)  # (title, settings): several rows in one figure
    falling = True  # the paper's claim: the final estimate falls with the parameter
    # Training accuracy from which a network counts: narrow ones may not fit their images, the published ones do.
    fitted: Mapping[str, float] = {"medium": 0.9}
    published = ""
    source = f"{PAPER}, F18"

    def runs(self, scale: str) -> list[Config]:
        rows = self.rows if scale == "paper" else self.rows[:1]
        return [
            at_scale(ResnetLlcCurve, scale, seeds=SEEDS[scale],
                     **{**self.settings.get(scale, {}), **settings, self.parameter: value})
            for _, settings in rows
            for value in self.values[scale]
        ]  # fmt: skip

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
                        values = np.where(valid(values), values, np.nan)
                    x, mean = steps[kept], _nanmean(values)
                    ax.plot(x, mean, "o-", ms=3, color=color, label=f"{value:g}")
                    if len(values) > 1:
                        low, high = np.transpose([interval(column[np.isfinite(column)]) for column in values.T])
                        ax.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
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
        hidden = sum(not valid(row["llc"]) for row in table)
        remark = f"{hidden} of {len(table)} estimates are negative (not at a minimum) and not drawn" if hidden else ""
        return Drawing(fig, pd.DataFrame(table), remark)

    def claims(self, runs: Runs) -> Iterator[Claim]:
        for title, settings in self.rows:
            chosen = runs.where(**settings)
            if len(chosen) < 2:
                continue
            finals, lost = self.finals(chosen, fitted=self.fitted.get(runs.scale, 0.0))
            yield from self.of_row(f", {title}" if title else "", finals, lost)

    @property
    def criterion(self) -> str:
        fits = f" of a network that fits {100 * self.fitted['medium']:.0f} % at medium" if self.fitted else ""
        return f"a valid estimate{fits} at every value"

    def of_row(self, title: str, finals: pd.DataFrame, lost: int) -> Iterator[Claim]:
        word = "falls" if self.falling else "rises"
        sign = -1 if self.falling else 1
        yield Ordered(
            name=f"estimate {word} with {self.label}{title}",
            statement=f"the final estimate {word} with {self.label}{title}", source=self.source,
            published=self.published or "monotone", basis=read_off("3 %"), samples=finals.to_numpy().T.tolist(),
            rising=not self.falling, unsuccessful=lost, criterion=self.criterion,
            remark=_listed(finals), **DECIDES,
            refuted_by=lambda runs: altered(runs, seeds=6, tables={"curve": self.ending(lambda rank: -sign * rank)}),
            confirmed_by=lambda runs: altered(runs, seeds=6, tables={"curve": self.ending(lambda rank: sign * rank)}),
        )  # fmt: skip

    def finals(self, runs: Runs, *, fitted: float) -> tuple[pd.DataFrame, int]:
        """Last estimates, (seeds, values), of the seeds that have a valid one of a fitted network at every value; and
        how many seeds have not."""
        last = pd.DataFrame(
            {"value": getattr(config, self.parameter), "seed": record.seed, **record.table("curve").iloc[-1]}
            for config, records in runs
            for record in records
        )
        good = valid(last.llc) & (last.train_accuracy >= fitted).to_numpy()
        wide = last.assign(llc=last.llc.where(good)).pivot(index="seed", columns="value", values="llc")
        seeds = {*last.seed, *(seed for config, _ in runs for seed in config.seeds)}
        kept = wide.dropna()
        return kept, len(seeds) - len(kept)

    def ending(self, height: Callable[[int], float]) -> Callable[[pd.DataFrame, Case], pd.DataFrame]:
        """A curve whose last estimate has this height, a function of the value's place among all values. (Five seeds
        decide about the five values and more of the paper; the two of scale smoke need six.)"""
        places = sorted({value for values in self.values.values() for value in values})

        def curve(table: pd.DataFrame, case: Case) -> pd.DataFrame:
            place = places.index(getattr(case.config, self.parameter))
            llc = 1000 + 20 * height(place) + case.index
            return table.assign(llc=[*table.llc[:-1], llc], train_accuracy=1.0)

        return curve


def _listed(finals: pd.DataFrame) -> str:
    return ", ".join(f"{value:g}: {mean:.0f}" for value, mean in finals.mean().items())


def _nanmean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(values.shape[1], np.nan), where=known.any(axis=0))


@figure("fig18_momentum", source=f"{PAPER}, implicit regularisation (F18)", experiments=RESNET)
class MomentumSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 by momentum of SGD."""

    parameter, label = "momentum", "momentum"
    values = {
        "paper": tuple(i / 10 for i in range(10)), "medium": (0.0, 0.3, 0.6, 0.9), "small": (0.0, 0.3, 0.6, 0.9),
        "smoke": (0.0, 0.9),
    }  # fmt: skip
    settings = {"paper": {"learning_rate": 0.05, "iterations": 20_001}}


@figure("fig18_learning_rate", source=f"{PAPER}, implicit regularisation (F18)", experiments=RESNET)
class LearningRateSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 by learning rate."""

    parameter, label = "learning_rate", "learning rate"
    values = {
        "paper": (0.005, 0.01, 0.05, 0.1, 0.2), "medium": (0.05, 0.1, 0.2, 0.4), "small": (0.01, 0.02, 0.05, 0.2),
        "smoke": (0.01, 0.1),
    }  # fmt: skip
    rows = (("no momentum", {"momentum": 0.0}), ("momentum 0.9", {"momentum": 0.9}))
    published = "7900, 7800, 6650, 5350, 3100 without momentum; 6600, 5230, 830, 220, 10 with 0.9"


@figure("fig18_batch_size", source=f"{PAPER}, implicit regularisation (F18)", experiments=RESNET)
class BatchSizeSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 under different batch sizes."""

    parameter, label, falling = "batch_size", "batch size", False
    values = {
        "paper": (16, 32, 64, 128, 256, 512, 1024), "medium": (64, 128, 256), "small": (16, 32, 64, 128),
        "smoke": (16, 32),
    }  # fmt: skip  # at medium, 4001 steps of 16 images fit 66 % of them only
    settings = {"paper": {"iterations": 100_001, "eval_every": 2500}}
    rows = (("no momentum", {"momentum": 0.0}), ("momentum 0.9", {"momentum": 0.9}))
    published = "1600 to 7900 without momentum, 60 to 6600 with 0.9, rising all along"


class L2Sweep(ResnetSweep):
    """What the two sweeps of L2 share: little of it raises the estimate, and more lowers it."""

    parameter, label = "l2", "L2 strength"
    little, much, falls_from = 0.01, 0.05, 0.01
    fitted: Mapping[str, float] = {}  # strong regularisation is not to fit
    values = {
        "paper": (0.0, 0.01, 0.025, 0.05, 0.075, 0.1), "medium": (0.0, 0.01, 0.05, 0.1),
        "small": (0.0, 0.01, 0.05, 0.1), "smoke": (0.0, 0.01, 0.05, 0.1),
    }  # fmt: skip

    def of_row(self, title: str, finals: pd.DataFrame, lost: int) -> Iterator[Claim]:
        shared: dict[str, Any] = {
            "source": self.source, "published": self.published, "basis": read_off("3 %"), "unsuccessful": lost,
            "criterion": self.criterion, **DECIDES,
        }  # fmt: skip
        without = finals[0.0].to_numpy()
        strengths = [float(v) for v in finals.columns]
        change = {v: finals[v].to_numpy() / without - 1 for v in strengths if v > 0}
        more = [v for v in change if v >= self.much]
        heights = {0.0: 0.0, self.little: 10.0} | {v: -5.0 - 100 * v for v in change if v > self.little}

        def with_l2(sign: int) -> Callable[[Runs], Runs]:
            def curve(table: pd.DataFrame, case: Case) -> pd.DataFrame:
                llc = 1000 + 20 * sign * heights.get(case.config.l2, 0.0) + case.index
                return table.assign(llc=[*table.llc[:-1], llc], train_accuracy=1.0)

            return lambda runs: altered(runs, seeds=6, tables={"curve": curve})

        yield AtLeast(
            name="a little L2 raises the estimate",
            statement=f"the final estimate is higher at L2 {self.little:g} than without", samples=change[self.little],
            bound=0.0, factor=100, unit=" %", fmt="+.1f", remark=_listed(finals), refuted_by=with_l2(-1),
            confirmed_by=with_l2(1), **shared,
        )  # fmt: skip
        yield All(
            name="much L2 lowers the estimate", statement=f"the final estimate is lower from L2 {self.much:g} on",
            parts=[
                AtMost(name=f"L2 {v:g}", statement="change against no L2", samples=change[v], bound=0.0, factor=100,
                       unit=" %", fmt="+.1f", **shared)
                for v in more
            ],
            refuted_by=with_l2(-1), confirmed_by=with_l2(1),
            **{k: v for k, v in shared.items() if k not in ("unsuccessful", "criterion")},
        )  # fmt: skip
        falling = [v for v in strengths if v >= self.falls_from]
        yield Ordered(
            name="estimate falls with strong L2",
            statement=f"the final estimate falls with the strength of L2 from {self.falls_from:g} on", rising=False,
            samples=finals[falling].to_numpy().T.tolist(), refuted_by=with_l2(-1), confirmed_by=with_l2(1), **shared,
        )  # fmt: skip


@figure("fig18_l2", source=f"{PAPER}, explicit regularisation (F18)", experiments=RESNET)
class L2MomentumSweep(L2Sweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 under L2 regularisation; in the
    paper 0.01 raises the estimate, and strengths from 0.05 lower it."""

    settings = {
        "paper": {"learning_rate": 5e-4, "momentum": 0.9, "step_size": 5e-8, "iterations": 15_001, "eval_every": 500},
        # As in the paper, a quarter of the other sweeps' step: L2 shrinks the weights, and the stable steps too.
        "medium": {"learning_rate": 5e-3, "momentum": 0.9, "step_size": 5e-6},
        "small": {"learning_rate": 5e-3, "momentum": 0.9},
    }  # fmt: skip
    published = "6650, 8300, 7000, 4900, 3500, 2550 at L2 0, 0.01, 0.025, 0.05, 0.075, 0.1"


@figure("fig18_l2_no_momentum", source=f"{PAPER}, explicit regularisation (F18)", experiments=RESNET)
class L2NoMomentumSweep(L2Sweep):
    """Learning coefficient, test accuracy and training loss of a ResNet18 on CIFAR-10 under L2 regularisation without
    momentum."""

    settings = {
        "paper": {"learning_rate": 1e-3, "step_size": 5e-8, "iterations": 50_001},
        "medium": {"step_size": 5e-6}, "small": {"learning_rate": 5e-3},
    }  # fmt: skip
    published = "6800, 7800, 8500, 6400, 5300, 4400 at L2 0, 0.01, 0.025, 0.05, 0.075, 0.1"
    falls_from = 0.025


@figure("fig18_model_size", source="original repository, not in the paper (F18)", experiments=RESNET)
class ModelSizeSweep(ResnetSweep):
    """Learning coefficient, test accuracy and training loss of ResNet18 of different widths on CIFAR-10, estimated
    against each network's own predictions."""

    parameter, label, falling = "width", "width", False
    values = {"paper": (1, 2, 4, 8, 10, 20, 64, 128), "medium": (1, 2, 4, 8), "small": (1, 2, 4, 8), "smoke": (1, 2)}
    settings = {
        "paper": {"learning_rate": 0.8, "batch_size": 128, "iterations": 100_001, "eval_every": 25_000,
                  "force_realisable": True},
        "medium": {"force_realisable": True}, "small": {"force_realisable": True}, "smoke": {"force_realisable": True},
    }  # fmt: skip
    fitted: Mapping[str, float] = {}  # the estimate is against the network's own predictions
    published = "430, about 2080, 3000, 4580, 5120 at widths 2, 8 to 10, 20, 64, 128"
    source = "original repository, not in the paper"
