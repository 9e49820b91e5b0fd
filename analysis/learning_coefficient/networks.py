"""Figures 1 to 4 and 7 to 9: estimated against exact learning coefficients of deep linear networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from reprod.analysis.learning_coefficient.common import (
    DLN,
    PAPER,
    _between,
    _bootstrap,
    _verdict,
    _wilson,
    diverged,
    histogram,
    identity,
    net_table,
    nets,
    plt,
    scatter,
    trained_nets,
)
from reprod.config import Config
from reprod.figures.figure import NOT_COMPARABLE, NOT_REPRODUCED, Claim, Drawing, Runs, figure
from reprod.figures.style import BLUE, GREY, shades

if TYPE_CHECKING:
    pass


@figure("fig1", source=f"{PAPER}, main result (F1)", experiments=DLN)
class EstimateAgainstExact:
    """Estimated against exact learning coefficient of random deep linear networks at the true parameter (mean of the
    last tenth of the SGLD trace), coloured by the number of parameters; the dashed line is equality."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = net_table(runs)
        return Drawing(scatter(table, "estimate", r"estimate $\hat\lambda(w^*)$"), table, diverged(table))

    def claims(self, runs: Runs) -> list[Claim]:
        table = net_table(runs)
        kept = table[(table.estimate > 0) & (table.exact > 0)]
        claims = []
        for size_class, group in kept.groupby("size_class", sort=False):
            errors = group.relative_error.to_numpy()
            median, spread = float(np.median(errors)), float(np.abs(errors).mean())
            low, high = _bootstrap(errors, np.median)
            # 6 % is the specification's for 1K; the published clouds of larger classes lie at 0.3 to 0.9 of the value.
            tolerance = 0.06 if size_class == "1K" else 0.30
            verdict, reason = _verdict(runs, abs(median) <= tolerance, enough=len(group) >= 10)
            claims.append(Claim(
                name=f"estimate near exact, class {size_class}",
                statement=f"for class {size_class} the estimate is exact within {tolerance:.0%} in the median",
                source=f"{PAPER}, F2 and F8", published="relative error +0.18 in the median over all classes",
                ours=f"median {median:+.3f}{_between(low, high)}, mean |.| {spread:.3f}, {len(group)} networks",
                verdict=verdict, reason=reason, value=median, interval=(low, high), n=len(group),
                run_ids=tuple(group.run_id),
            ))  # fmt: skip
        x, y = np.log10(kept.exact.to_numpy()), np.log10(kept.estimate.to_numpy())
        r = float(np.corrcoef(x, y)[0, 1]) if len(kept) > 2 else math.nan
        decades = float(x.max() - x.min()) if len(x) else 0.0
        verdict, reason = _verdict(runs, r > 0.95, enough=len(kept) >= 10)
        claims.append(Claim(
            name="estimate tracks exact", statement="the estimate tracks the exact value over orders of magnitude",
            source=f"{PAPER}, F1", published="points along the identity, 2e1 to 1.5e6",
            ours=f"correlation of the logarithms {r:.3f} over {decades:.1f} decades, {len(kept)} networks",
            verdict=verdict, reason=reason, value=r, n=len(kept), run_ids=tuple(kept.run_id),
        ))  # fmt: skip
        return claims


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

    def claims(self, runs: Runs) -> list[Claim]:
        table = net_table(runs)
        kept = table[(table.trained_estimate > 0) & (table.exact > 0)]
        ratio = (kept.trained_estimate / kept.exact).to_numpy()
        median = float(np.median(ratio)) if len(ratio) else math.nan
        low, high = _bootstrap(ratio, np.median)
        verdict, reason = _verdict(runs, 0.5 < median < 1.5, enough=len(kept) >= 8)
        return [Claim(
            name="trained parameter", statement="the estimate at a trained parameter tracks the exact value too",
            source=f"{PAPER}, F3", published="points along the identity; finite for 54 to 100 of 100 networks",
            ours=f"median ratio {median:.2f}{_between(low, high)}, finite and positive for {len(kept)} of"
            f" {len(table)}", verdict=verdict, reason=reason, value=median, interval=(low, high), n=len(kept),
            run_ids=tuple(kept.run_id),
        )]  # fmt: skip


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

    def claims(self, runs: Runs) -> list[Claim]:
        table = net_table(runs)
        ones, n = int((table.multiplicity == 1).sum()), len(table)
        low, high = _wilson(ones, n)
        all_classes = runs.scale == "paper"
        verdict, reason = _verdict(runs, low <= 381 / 525 <= high, enough=n >= 30)
        if verdict == NOT_REPRODUCED and not all_classes:
            verdict, reason = NOT_COMPARABLE, "the published share is over all six size classes"
        return [Claim(
            name="multiplicity one", statement="most networks have multiplicity 1", source=f"{PAPER}, F4",
            published="about 381 of 525 (0.73)", ours=f"{ones} of {n} ({ones / n:.2f}) [{low:.2f}, {high:.2f}]",
            verdict=verdict, reason=reason, value=ones / n, interval=(low, high), n=n, run_ids=runs.ids,
        )]  # fmt: skip


@figure("fig7", source=f"{PAPER}, mean acceptance (F7)", experiments=DLN)
class MeanAcceptance:
    """Mean Metropolis acceptance probability of each network."""

    def runs(self, scale: str) -> list[Config]:
        return nets(scale)

    def draw(self, runs: Runs) -> Drawing:
        table = net_table(runs)
        fig = histogram(table, "acceptance", "mean acceptance probability")
        return Drawing(fig, table[["size_class", "seed", "acceptance"]])

    def claims(self, runs: Runs) -> list[Claim]:
        values = net_table(runs).acceptance.dropna().to_numpy()
        share = float((values > 0.8).mean()) if len(values) else math.nan
        verdict, reason = _verdict(runs, share > 0.5, enough=len(values) >= 10)
        return [Claim(
            name="high acceptance", statement="most chains would have had most of their steps accepted by MALA",
            source=f"{PAPER}, F7", published="about 443 of 545 networks above 0.8",
            ours=f"{(values > 0.8).sum()} of {len(values)} above 0.8, median {np.median(values):.3f}", verdict=verdict,
            reason=reason, value=share, n=len(values), run_ids=runs.ids,
        )]  # fmt: skip


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

    def claims(self, runs: Runs) -> list[Claim]:
        errors = net_table(runs).relative_error.dropna().to_numpy()
        inside = float(((errors > -0.09) & (errors < 0.21)).mean()) if len(errors) else math.nan
        low, high = _wilson(round(inside * len(errors)), len(errors)) if len(errors) else (math.nan, math.nan)
        verdict, reason = _verdict(runs, high >= 0.52, enough=len(errors) >= 20)
        return [Claim(
            name="half of the errors are small", statement="at least half of the relative errors lie in (-0.09, 0.21)",
            source=f"{PAPER}, F8", published="52 %", ours=f"{inside:.0%} [{low:.0%}, {high:.0%}] of {len(errors)}",
            verdict=verdict, reason=reason or ("" if runs.scale == "paper" else "of the smaller size classes only"),
            value=inside, interval=(low, high), n=len(errors), run_ids=runs.ids,
        )]  # fmt: skip


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
