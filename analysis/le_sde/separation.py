"""The phase transition itself (experiment E8, ours): a sample is one simulated system."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import PAPER, Array, jitter, letter
from reprod.config import Config, at_scale
from reprod.figures import style
from reprod.figures.alter import Case, altered
from reprod.figures.claims import All, AtLeast, AtMost, Claim, Equals, Share, our_limit
from reprod.figures.figure import Drawing, Runs, figure
from reprod.le_sde.config import LeSdeSeparation

NEARLY = our_limit("nine systems in ten: as far as some forty systems can tell all from nearly all")


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

    def claims(self, runs: Runs) -> Iterator[Claim]:
        shared: dict[str, Any] = {
            "source": f"{PAPER}, abstract (sharp phase transition)", "paper_n": 12, "run_ids": runs.ids,
            "refuted_by": partial(transition_world, right=False), "confirmed_by": partial(transition_world, right=True),
        }  # fmt: skip
        part: dict[str, Any] = {"source": shared["source"], "basis": NEARLY, "factor": 100, "unit": " %", "fmt": ".0f"}
        trend: dict[str, Any] = {"source": shared["source"], "basis": our_limit("its sign"), "paper_n": 12}
        for model in "IL":
            ((_, records),) = [(c, r) for c, r in runs if c.model == model and c.alpha != c.beta]
            found = pd.concat([record.table("systems") for record in records])
            yield All(
                name=f"turning {model}", published="r = 1", basis=our_limit("the sign of the trend"), **shared,
                statement=f"{model}-model: gap/spread grows just below r = 1 and shrinks just above",
                parts=[
                    AtLeast(name="growth below", statement="gap/spread grows with t just below r = 1", bound=0.0,
                            published="above 0", samples=trends(records, below=True), **trend),
                    AtMost(name="growth above", statement="gap/spread shrinks with t just above r = 1", bound=0.0,
                           published="below 0", samples=trends(records, below=False), **trend),
                ],
            )  # fmt: skip
            slow, fast = found.loc[found["exponent"] <= 0.8], found.loc[found["exponent"] >= 1.2]
            yield All(
                name=f"separable {model}", published="all, none", basis=NEARLY, **shared,
                statement=f"{model}-model: separable at the end for r <= 0.8, not for r >= 1.2",
                parts=[
                    Share(name="r <= 0.8", statement="separable for r <= 0.8", published="all", at_least=0.9,
                          count=int(slow["separable"].sum()), total=len(slow), **part),
                    Share(name="r >= 1.2", statement="not separable for r >= 1.2", published="none", at_most=0.1,
                          count=int(fast["separable"].sum()), total=len(fast), **part),
                ],
            )  # fmt: skip
        found = pd.concat([record.table("systems") for record in runs.where(alpha=0.5).records])
        yield Share(
            name="no elasticity", statement="alpha = beta: never separable, whatever r", published="none",
            count=int(found["separable"].sum()), total=len(found), at_most=0.1, **part | shared,
        )  # fmt: skip
        cosines = np.concatenate([final_cosines(record) for record in runs.where(model="L").records])
        yield Equals(
            name="simplex", statement="L-model, smallest r: centred class means form a simplex ETF (mean cosine -1/2)",
            published="-1/2", basis=our_limit("a limit, reached to a hundredth"), samples=cosines, target=-0.5,
            tolerance=0.01, why="to two digits", fmt=".3f",
            **shared | {"source": f"{PAPER}, abstract (neural collapse)"},
        )  # fmt: skip


def times_and_ratios(record: Any) -> tuple[Array, Array, Array]:
    """Times (M,), exponents (E,), median over replicas of gap/spread (E, M)."""
    ratio = np.median(np.asarray(record.array("ratio"), dtype=float), axis=1)
    return np.asarray(record.array("times")), np.asarray(record.array("exponents")), ratio


def trends(records: Any, below: bool) -> Array:
    """Exponent of gap/spread in t over the last factor of thirty, of each system at the exponent next to 1. (Farther
    above 1 the gap of two sample means by chance is all that is left, and nothing shrinks.)"""
    found = []
    for record in records:
        t, r = np.asarray(record.array("times"), dtype=float), np.asarray(record.array("exponents"))
        at = np.argmax(np.where(r < 1, r, -np.inf)) if below else np.argmin(np.where(r > 1, r, np.inf))
        ratio = np.asarray(record.array("ratio"), dtype=float)[at]
        early = int(np.argmin(np.abs(t - t[-1] / 30)))
        found.append(np.log(ratio[:, -1] / ratio[:, early]) / np.log(t[-1] / t[early]))
    return np.concatenate(found)


def final_cosines(record: Any) -> Array:
    """Mean cosine of the centred class means at the end, of each replica (R,) at the smallest exponent."""
    return np.asarray(record.array("cosine"))[int(np.argmin(record.array("exponents"))), :, -1]


def shares(record: Any) -> pd.Series:
    """The share of systems that are linearly separable at the end, by exponent."""
    return record.table("systems").groupby("exponent")["separable"].mean()


def transition_world(runs: Runs, right: bool) -> Runs:
    """Twelve systems for each exponent with a sharp transition at r = 1 and a frame at the end; or a transition at 0.5,
    systems that separate at random, and no frame."""
    replicas = range(12)

    def ratio(_: Array, case: Case) -> Array:
        t, r = np.asarray(case.record.array("times"), dtype=float), np.asarray(case.record.array("exponents"))
        turn = (1.0 if right else 0.5) + np.array([jitter(i, 0.004) for i in replicas])
        return np.exp((turn[None, :] - r[:, None])[..., None] * np.log(t))

    def cosine(values: Array, case: Case) -> Array:
        size = np.array([jitter(i, 1e-3) for i in replicas])
        return (-0.5 if right else -0.3) + np.tile(size[None, :, None], (values.shape[0], 1, values.shape[2]))

    def systems(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
        exponents = np.repeat(np.linspace(0.6, 1.5, 10).round(2), 40)
        chance = np.arange(len(exponents)) % 2 == 0
        elastic = case.config.alpha != case.config.beta
        return pd.DataFrame({"exponent": exponents, "separable": (exponents < 1) & elastic if right else chance})

    return altered(runs, arrays={"ratio": ratio, "cosine": cosine}, tables={"systems": systems})
