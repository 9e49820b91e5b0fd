"""The phase transition itself (experiment E8, ours)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import PAPER, Array, crossing_of, holds, letter, near, too_small
from reprod.config import Config, at_scale
from reprod.figures import style
from reprod.figures.figure import Claim, Drawing, Runs, figure
from reprod.le_sde.config import (
    LeSdeSeparation,
)


@figure("separation", source=f"{PAPER}, phase transition (experiment E8, ours)", experiments=("le_sde_separation",))
class PhaseTransition:
    """The phase transition itself, which the first implementation never showed: LE-SDE with alpha - beta = (K/2) t^-r.
    a: smallest gap of class means over the within-class spread against t, median of the replicas; where all decays, the
    gap of two sample means by chance is left. b: the same against
    the exponent r at several horizons; the curves cross at r = 1. c: share of systems that hyperplanes separate at the
    end, for both models, and without local elasticity (alpha = beta)."""

    def runs(self, scale: str) -> list[Config]:
        return [
            at_scale(LeSdeSeparation, scale),
            at_scale(LeSdeSeparation, scale, model="L"),
            at_scale(LeSdeSeparation, scale, alpha=0.5, beta=0.5),
        ]

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.2))
        ((_, (record, *_)),) = runs.where(model="I", alpha=1.2)
        t, r, ratio = times_and_ratios(record)
        rows = []
        for colour, exponent, curve in zip(style.shades(len(r)), r, ratio, strict=True):
            axes[0].loglog(t, curve, color=colour, lw=1, label=f"{exponent:g}")
            rows += [["I", exponent, int(a), b] for a, b in zip(t[::4], curve[::4], strict=True)]
        axes[0].set(xlabel="t", ylabel="gap / spread", ylim=(0.005, 1e3))
        axes[0].legend(title="r", ncols=4, fontsize=6.5, title_fontsize=7, loc="lower left", columnspacing=1)
        horizons = [h for h in (100, 1000, 10_000, 100_000) if h < 1.01 * t[-1]]
        horizons += [] if horizons and horizons[-1] > 0.7 * t[-1] else [int(t[-1])]
        for colour, horizon in zip(style.CYCLE, horizons, strict=False):
            at = int(np.argmin(np.abs(t - horizon)))
            axes[1].semilogy(r, ratio[:, at], "o-", color=colour, ms=3, lw=1, label=f"t = {t[at]:,}")
        axes[1].axvline(1, color="black", ls=":", lw=0.9)
        axes[1].set(xlabel="exponent r", ylabel="gap / spread", ylim=(0.01, 1e3))
        axes[1].legend(loc="upper right")
        cases: tuple[tuple[str, dict[str, Any], str], ...] = (
            ("I-model", {"model": "I", "alpha": 1.2}, "o"),
            ("L-model", {"model": "L"}, "s"),
            (r"$\alpha = \beta$", {"alpha": 0.5}, "x"),
        )
        for colour, (label, chosen, marker) in zip(style.CYCLE, cases, strict=False):
            ((_, (found, *_)),) = runs.where(**chosen)
            share = shares(found)
            look = {"color": colour, "ms": 8 if marker == "o" else 4, "mfc": "none" if marker == "o" else colour}
            axes[2].plot(share.index, share, marker + "-", lw=1, label=label, **look)
        axes[2].axvline(1, color="black", ls=":", lw=0.9)
        axes[2].set(xlabel="exponent r", ylabel="share linearly separable", ylim=(-0.05, 1.05))
        axes[2].legend(loc="center right")
        for ax, name in zip(axes, "abc", strict=True):
            letter(ax, name)
        return Drawing(fig, pd.DataFrame(rows, columns=["model", "r", "t", "ratio"]))

    def claims(self, runs: Runs) -> list[Claim]:
        source = f"{PAPER}, abstract (sharp phase transition)"
        if runs.scale == "smoke":
            return too_small(runs, source, "features separate if and only if the drift decays slower than 1/t")
        rows = []
        for model in "IL":
            ((_, (record, *_)),) = [(c, r) for c, r in runs if c.model == model and c.alpha != c.beta]
            t, r, ratio = times_and_ratios(record)
            early = int(np.argmin(np.abs(t - t[-1] / 30)))
            trend = np.log(ratio[:, -1] / ratio[:, early]) / math.log(t[-1] / t[early])
            crossing = crossing_of(r, -trend, 0.0)
            rows.append(
                near(
                    runs,
                    f"crossing {model}",
                    f"{model}-model: gap/spread turns from growing to shrinking at r = 1",
                    1.0,
                    0.06,
                    crossing,
                    source=source,
                    ids=[record.id],
                    n=np.asarray(record.array("ratio")).shape[1],
                )
            )
            share = shares(record)
            below, above = float(share[:0.8].mean()), float(share[1.2:].mean())
            rows.append(
                holds(
                    runs,
                    f"separable {model}",
                    f"{model}-model: separable at the end for r <= 0.8, not for r >= 1.2",
                    "all, none",
                    f"{100 * below:.0f} %, {100 * above:.0f} %",
                    below == 1 and above == 0,
                    source=source,
                    ids=[record.id],
                )
            )
        ((_, (record, *_)),) = runs.where(alpha=0.5)
        share = float(shares(record).mean())
        rows.append(
            holds(
                runs,
                "no elasticity",
                "alpha = beta: never separable, whatever r",
                "none",
                f"{100 * share:.0f} %",
                share == 0,
                source=source,
                ids=[record.id],
            )
        )
        ((_, (record, *_)),) = runs.where(model="L")
        r = np.asarray(record.array("exponents"))
        cosine = float(np.median(np.asarray(record.array("cosine"))[np.argmin(r), :, -1]))
        rows.append(
            near(
                runs,
                "simplex",
                "L-model, smallest r: centred class means form a simplex ETF (mean cosine -1/2)",
                -0.5,
                0.01,
                cosine,
                source=f"{PAPER}, abstract (neural collapse)",
                ids=[record.id],
                digits=3,
            )
        )
        return rows


def times_and_ratios(record: Any) -> tuple[Array, Array, Array]:
    """Times (M,), exponents (E,), median over replicas of gap/spread (E, M)."""
    ratio = np.median(np.asarray(record.array("ratio"), dtype=float), axis=1)
    return np.asarray(record.array("times")), np.asarray(record.array("exponents")), ratio


def shares(record: Any) -> pd.Series:
    """The share of systems that are linearly separable at the end, by exponent."""
    return record.table("systems").groupby("exponent")["separable"].mean()
