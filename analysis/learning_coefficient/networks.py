"""Figures 1 to 4 and 7 to 9: estimated against exact learning coefficients of deep linear networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from reprod.analysis.learning_coefficient.common import (
    DLN,
    PAPER,
    diverged,
    failed,
    histogram,
    identity,
    net_table,
    nets,
    plt,
    scatter,
    trained_nets,
)
from reprod.config import Config
from reprod.figures.alter import Case, altered
from reprod.figures.claims import AtLeast, Claim, Equals, Share, bootstrap, our_limit, read_off, slope
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import BLUE, GREY, shades

# Share of the networks that may lack an estimate: what the paper lost (F1: 40 of 593, all in the large classes; F3:
# finite for 99, 100, 100, 99, 93 and 54 of 100).
LOST_AT_TRUTH = {"1M": 0.13, "10M": 0.13, "100M": 0.13}
LOST_TRAINED = {"1K": 0.01, "1M": 0.01, "10M": 0.07, "100M": 0.46}
# How near to the exact value the median is to be. Classes that are not here lie below it in the paper.
NEAR = {"1K": 0.06, "10K": 0.3, "100K": 0.3}


def near_exact(runs: Runs, column: str, *, metric: str, lost: Mapping[str, float], source: str) -> Iterator[Claim]:
    """Per size class, the median relative error (exact - estimate)/exact. One network is one sample, and every finite
    estimate counts, a negative one too."""
    table = net_table(runs)
    where = "the trained parameter" if column == "trained_estimate" else "the truth"
    for size_class in dict.fromkeys(map(str, table.size_class)):
        group = table[(table.exact > 0) & (table.size_class == size_class)]
        errors = (1 - group[column] / group.exact).to_numpy()
        known = errors[np.isfinite(errors)]
        of_class = Runs([(c, r) for c, r in runs if c.size_class == size_class], runs.scale)
        shared: dict[str, Any] = {
            "source": source, "samples": bootstrap(known, np.median), "paper_n": 100, "fmt": "+.3f",
            "unsuccessful": len(errors) - len(known) + failed(of_class),
            "allowed": round(lost.get(size_class, 0.0) * len(errors)), "criterion": "an estimate",
            "remark": f"mean absolute error {np.abs(known).mean():.3f}" if len(known) else "",
            "run_ids": tuple(group.run_id),
            "refuted_by": lambda runs: altered(runs, seeds=24, metrics={metric: times(2.0)}),
        }  # fmt: skip
        if size_class in NEAR:
            limit = NEAR[size_class]
            yield Equals(
                name=f"estimate near exact, class {size_class}",
                statement=f"class {size_class}: the median estimate at {where} is exact within {limit:.0%}",
                published="relative error +0.18 in the median over all six classes; 1K and 100K hug the identity, many"
                " of 10K lie at 0.3 to 0.9 of it",
                basis=our_limit("6 % for 1K, where an independent implementation had 3 %; 30 % for classes whose clouds"
                                " the paper shows down to 0.3 of the exact value"),
                target=0.0, tolerance=limit, why="see the basis", **shared,
                confirmed_by=lambda runs: altered(runs, seeds=24, metrics={metric: times(1.01)}),
            )  # fmt: skip
        else:
            yield AtLeast(
                name=f"estimate below exact, class {size_class}",
                statement=f"class {size_class}: chains of the published length leave the median estimate at {where}"
                " below the exact value",
                published="points at 0.3 to 0.9 of the exact value", basis=read_off("0.1 of the value"), bound=0.0,
                confirmed_by=lambda runs: altered(runs, seeds=24, metrics={metric: times(0.6)}), **shared,
            )  # fmt: skip


def times(factor: float) -> Callable[[float, Case], float]:
    """An estimate at this multiple of the exact value, a percent to both sides."""
    return lambda value, case: case.record.metrics["llc/exact"] * factor * (1 + 0.01 * (-1) ** case.index)


@figure("fig1", source=f"{PAPER}, main result (F1)", experiments=DLN)
class EstimateAgainstExact:
    """Estimated against exact learning coefficient of random deep linear networks at the true parameter (mean of the
    last tenth of the SGLD trace), coloured by the number of parameters; the dashed line is equality."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = net_table(runs)
        return Drawing(scatter(table, "estimate", r"estimate $\hat\lambda(w^*)$"), table, diverged(table))

    def claims(self, runs: Runs) -> Iterator[Claim]:
        yield from near_exact(runs, "estimate", metric="llc/estimate", lost=LOST_AT_TRUTH, source=f"{PAPER}, F2 and F8")
        table = net_table(runs)
        kept = table[(table.estimate > 0) & (table.exact > 0)]
        x, y = np.log10(kept.exact.to_numpy()), np.log10(kept.estimate.to_numpy())
        decades = float(np.ptp(x)) if len(x) else 0.0
        yield Equals(
            name="estimate tracks exact", statement="the estimate tracks the exact value over orders of magnitude: the"
            " logarithms lie along the identity, slope 1", source=f"{PAPER}, F1",
            published="points along the identity, 2e1 to 1.5e6; 40 of 593 networks without an estimate",
            basis=our_limit("a slope within 0.15 of 1; the published clouds of the large classes, at 0.3 to 0.9 of the"
                            " exact value five decades up, make a slope near 0.94"),
            samples=slope(x, y), target=1.0, tolerance=0.15, why="see the basis", paper_n=593,
            unsuccessful=len(table) - len(kept) + failed(runs), allowed=round(0.07 * len(table)),
            criterion="a positive estimate", remark=f"over {decades:.1f} decades",
            refuted_by=lambda runs: altered(runs, metrics={"llc/estimate": lambda v, case: 100.0 + case.index}),
            confirmed_by=lambda runs: altered(runs, metrics={"llc/estimate": times(1.0)}),
        )  # fmt: skip


@figure("fig2", source=f"{PAPER}, main result by size class (F2)", experiments=DLN)
class EstimateAgainstExactByClass:
    """Estimated against exact learning coefficient, one panel per size class, linear axes; error bars are standard
    errors between chains."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = net_table(runs)
        classes = list(dict.fromkeys(table.size_class))
        columns = min(len(classes), 2)
        rows = -(-len(classes) // columns)
        fig, axes = plt().subplots(rows, columns, figsize=(3.7 * columns, 3.1 * rows), squeeze=False)
        for ax, name in zip(axes.flat, classes, strict=False):
            group = table[(table.size_class == name) & table.estimate.notna()]
            identity(ax, group.exact, group.estimate)
            ax.errorbar(
                group.exact, group.estimate, group.standard_error.fillna(0), fmt="none", ecolor=GREY, lw=0.7, zorder=1.5
            )
            dots = ax.scatter(group.exact, group.estimate, c=group.parameters, cmap="plasma", s=16, lw=0, zorder=2)
            fig.colorbar(dots, ax=ax, label="parameters $D$")
            ax.set(title=f"class {name} ({len(group)} networks)")
            ax.set(xlabel=r"exact $\lambda$", ylabel=r"estimate $\hat\lambda(w^*)$")
            ax.set(xlim=(0, None), ylim=(0, None))
        for ax in axes.flat[len(classes) :]:
            ax.set_visible(False)
        return Drawing(fig, table, diverged(table))


@figure("fig3", source=f"{PAPER}, trained parameter (F3)", experiments=DLN)
class EstimateAtTrainedParameter:
    """The estimate at a parameter found by SGD with momentum on the same data, against the exact learning coefficient
    of the truth."""

    def runs(self, scale: str) -> list[Config]:
        return trained_nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = net_table(runs)
        fig = scatter(table, "trained_estimate", r"estimate at the trained parameter $\hat\lambda(\hat w)$")
        return Drawing(fig, table, diverged(table, "trained_estimate"))

    def claims(self, runs: Runs) -> Iterator[Claim]:
        return near_exact(runs, "trained_estimate", metric="trained/estimate", lost=LOST_TRAINED, source=f"{PAPER}, F3")


@figure("fig4", source=f"{PAPER}, multiplicities (F4)", experiments=DLN)
class Multiplicities:
    """Exact multiplicity of the networks of F1."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        counts = net_table(runs).multiplicity.value_counts().sort_index()
        fig, ax = plt().subplots(figsize=(4.2, 2.8))
        bars = ax.bar(counts.index.astype(str), counts, color=BLUE)
        ax.bar_label(bars, fontsize=8)
        ax.set(xlabel="multiplicity $m$", ylabel="networks")
        ax.grid(axis="x", visible=False)
        return Drawing(fig, counts.rename_axis("multiplicity").reset_index(name="networks"))

    def claims(self, runs: Runs) -> Iterator[Claim]:
        table = net_table(runs)
        yield Share(
            name="multiplicity one", statement="nearly three quarters of the networks have multiplicity 1",
            source=f"{PAPER}, F4", published="about 381 of 525 (0.73)",
            basis=read_off("a few networks; 0.65 to 0.80 allows for that, and for two samples of some 500 networks"),
            count=int((table.multiplicity == 1).sum()), total=len(table) + failed(runs), at_least=0.65, at_most=0.8,
            paper_n=525, scales=("paper",), elsewhere="the published share is over all six size classes",
            refuted_by=lambda runs: altered(runs, seeds=100, metrics={"llc/multiplicity": lambda v, case: 2}),
            confirmed_by=lambda runs: altered(
                runs, seeds=200, metrics={"llc/multiplicity": lambda v, case: 1 if case.index % 40 < 29 else 2}
            ),
        )  # fmt: skip


@figure("fig7", source=f"{PAPER}, mean acceptance (F7)", experiments=DLN)
class MeanAcceptance:
    """Mean Metropolis acceptance probability of each network."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = net_table(runs)
        fig = histogram(table, "acceptance", "mean acceptance probability")
        return Drawing(fig, table[["size_class", "seed", "acceptance"]])

    def claims(self, runs: Runs) -> Iterator[Claim]:
        table = net_table(runs)
        yield Share(
            name="high acceptance", statement="MALA would have accepted over 80 % of the steps of most chains",
            source=f"{PAPER}, F7", published="about 443 of 545 networks above 0.8 (0.81)",
            basis=our_limit('"most" is more than half; the published share is read off ten bars'),
            count=int((table.acceptance > 0.8).sum()), total=len(table) + failed(runs), at_least=0.5, paper_n=545,
            remark="" if runs.scale == "paper" else "of the smaller size classes only",
            refuted_by=lambda runs: altered(runs, seeds=100, metrics={"llc/acceptance": lambda v, case: 0.5}),
            confirmed_by=lambda runs: altered(runs, seeds=100, metrics={"llc/acceptance": lambda v, case: 0.9}),
        )  # fmt: skip


@figure("fig8", source=f"{PAPER}, relative errors (F8)", experiments=DLN)
class RelativeErrors:
    """Relative error (exact - estimate)/exact over the networks of F1."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = net_table(runs)
        fig = histogram(table, "relative_error", r"relative error $(\lambda - \hat\lambda)/\lambda$", bins=12)
        fig.axes[0].axvline(0, color="black", lw=1)
        return Drawing(fig, table[["size_class", "seed", "exact", "estimate", "relative_error"]], diverged(table))

    def claims(self, runs: Runs) -> Iterator[Claim]:
        errors = net_table(runs).relative_error
        yield Share(
            name="half of the errors are small", statement="half of the relative errors lie in (-0.09, 0.21)",
            source=f"{PAPER}, F8", published="52 %",
            basis=read_off("3 %; from 45 % on, which allows for that and for a sample of 600 networks"),
            count=int(((errors > -0.09) & (errors < 0.21)).sum()), total=len(errors) + failed(runs), at_least=0.45,
            paper_n=611, scales=("paper",), elsewhere="the published share is over all six size classes",
            refuted_by=lambda runs: altered(runs, seeds=100, metrics={"llc/estimate": times(0.5)}),
            confirmed_by=lambda runs: altered(runs, seeds=100, metrics={"llc/estimate": times(0.9)}),
        )  # fmt: skip


@figure("fig9", source=f"{PAPER}, relative error by size (F9)", experiments=DLN)
class RelativeErrorBySize:
    """Relative error against the number of parameters; bars are standard errors between chains."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = net_table(runs)
        fig, ax = plt().subplots(figsize=(5.0, 3.2))
        for (name, group), color in zip(
            table.groupby("size_class", sort=False), shades(table.size_class.nunique()), strict=True
        ):
            bars = (group.standard_error / group.exact).fillna(0)
            ax.errorbar(group.parameters, group.relative_error, bars, fmt="o", ms=3.5, lw=0.7, color=color, label=name)
        ax.axhline(0, color="black", lw=1)
        ax.set(xscale="log", xlabel="parameters $D$", ylabel=r"relative error $(\lambda - \hat\lambda)/\lambda$")
        ax.legend(title="class")
        return Drawing(fig, table[["size_class", "seed", "parameters", "relative_error", "standard_error"]])
