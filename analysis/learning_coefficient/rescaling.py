"""Figure 14: the estimate under the rescaling symmetry of ReLU networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.analysis.learning_coefficient.common import PAPER, failed, plt
from reprod.config import Config, at_scale
from reprod.figures.alter import altered
from reprod.figures.claims import PRINTED, All, Claim, Equals, Exact, our_limit, slope
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import BLUE, GREEN, ORANGE
from reprod.learning_coefficient.config import RescalingInvariance

if TYPE_CHECKING:
    from reprod.store import Record

RESCALED = {1: (10, 20), 2: (20, 30), 3: (30, 40)}  # model -> inputs, hidden units


def _rescalings(scale: str) -> list[Config]:
    if scale == "smoke":
        return [at_scale(RescalingInvariance, scale)]
    # Two of the three networks at small scale: each costs minutes. The paper has one truth; the spread over truths,
    # which says how far another one may be from it, needs several.
    models, truths = ((1, 2), (0, 1, 2)) if scale == "small" else (tuple(RESCALED), (0, 1, 2, 3, 4))
    settings: dict[int, dict[str, Any]] = {i: {} for i in RESCALED}
    if scale == "small":
        settings[2] = {"exponents": (-4.0, -1.0, 0.0, 1.0, 4.0), "chains": 2}
    return [
        at_scale(
            RescalingInvariance, scale, input_width=RESCALED[i][0], width=RESCALED[i][1], seeds=truths, **settings[i]
        )
        for i in models
    ]


PUBLISHED = {  # hidden units -> mean over factors and runs, words
    20: (166.41, "166.41 +- 2.73, factor means 164.69 to 168.45"),
    30: (536.99, "536.99 +- 6.20, factor means 533.13 to 541.96"),
}


@figure("fig14", source=f"{PAPER}, rescaling symmetry (F14)", experiments=("rescaling_invariance",))
class Rescaling:
    """Estimate of ReLU networks whose first layer is scaled by a factor and whose second by its inverse: mean over
    runs, bars are standard deviations. The function does not change, nor does the estimate."""

    def runs(self, scale: str) -> list[Config]:
        return _rescalings(scale)

    def draw(self, runs: Runs) -> Drawing:
        fig, ax = plt().subplots(figsize=(5.2, 3.3))
        table = []
        for (config, records), color in zip(runs, (BLUE, ORANGE, GREEN), strict=False):
            for record in records:
                exponents, llc = by_factor(record)
                name = f"{config.input_width}-{config.width}-{config.input_width}"
                deviation = llc.std(axis=1, ddof=1) if llc.shape[1] > 1 else None
                label = name if record is records[0] else None
                ax.errorbar(10**exponents, llc.mean(axis=1), deviation, fmt="o-", capsize=2.5, color=color, label=label)
                table += [
                    {"network": name, "seed": record.seed, "factor": 10**e, "chain": i, "llc": v}
                    for e, values in zip(exponents, llc, strict=True)
                    for i, v in enumerate(values)
                ]
        ax.set(xscale="log", xlabel="factor of the first layer", ylabel=r"estimate $\hat\lambda$", ylim=(0, None))
        ax.legend(title="network")
        return Drawing(fig, pd.DataFrame(table))

    def claims(self, runs: Runs) -> Iterator[Claim]:
        for config, records in runs:
            name = f"{config.input_width}-{config.width}-{config.input_width}"
            number, words = PUBLISHED.get(config.width, (None, "not given"))
            exponents, relative, lost = pooled(records)
            shared: dict[str, Any] = {
                "source": f"{PAPER}, F14", "paper_n": 85, "unsuccessful": lost + failed(Runs([(config, records)], "")),
                "criterion": "an estimate", "run_ids": tuple(r.id for r in records), "target": 0.0, "fmt": "+.4f",
            }  # fmt: skip
            basis = our_limit("5 % over the eight decades, twice the range of the published factor means (2.3 %)")
            yield All(
                name=f"rescaling invariance, {name}",
                statement="the estimate does not depend on the factor: it changes neither with the exponent nor with"
                " its absolute value", source=f"{PAPER}, F14", published=words, basis=basis,
                parts=[
                    Equals(name="with the exponent", statement="slope against the exponent, relative to the mean",
                           published=words, basis=basis, samples=slope(exponents, relative), tolerance=0.05 / 8,
                           why="5 % over eight decades", **shared),
                    Equals(name="with its absolute value", statement="slope against the absolute exponent",
                           published=words, basis=basis, samples=slope(np.abs(exponents), relative), tolerance=0.05 / 4,
                           why="5 % over four decades", **shared),
                ],
                run_ids=shared["run_ids"],
                refuted_by=lambda runs: altered(runs, seeds=3, tables={"estimates": lambda t, case: t.assign(
                    llc=100 * (1 + 0.1 * t.exponent.abs()) + t.chain % 2)}),
                confirmed_by=lambda runs: altered(runs, seeds=3, tables={"estimates": lambda t, case: t.assign(
                    llc=100 + 0.01 * (t.chain % 2))}),
            )  # fmt: skip
            if number is not None:
                yield Equals(
                    name=f"value, {name}", statement="size of the estimate; one truth is one sample",
                    source=f"{PAPER}, F14", published=words, basis=PRINTED, samples=[truth_mean(r) for r in records],
                    target=number, tolerance=0.15 * number, spread=False, paper_n=1, fmt=".1f",
                    why="15 %: the truth is another random draw than the paper's", run_ids=shared["run_ids"],
                )  # fmt: skip
            differences = [r.metrics.get("same_noise/relative_difference", math.nan) for r in records]
            yield Exact(
                name=f"equivariance, {name}", statement="the same noise gives the same estimate at factors 1 and 1000",
                source=f"{PAPER}, notebook", published="173.99768 and 173.99757: 6e-7",
                basis=our_limit("1e-5, what float32 leaves after some hundred steps"), value=differences, target=0.0,
                rounding=1e-5, fmt=".1e", run_ids=shared["run_ids"],
                refuted_by=lambda runs: altered(
                    runs, metrics={"same_noise/relative_difference": lambda v, case: 1e-3}),
                confirmed_by=lambda runs: altered(
                    runs, metrics={"same_noise/relative_difference": lambda v, case: 6e-7}),
            )  # fmt: skip


def by_factor(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Exponents of the factors, ascending, (factors,), and the estimates of all chains, (factors, chains)."""
    wide = record.table("estimates").pivot(index="exponent", columns="chain", values="llc")
    return wide.index.to_numpy(), wide.to_numpy()


def pooled(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray, int]:
    """Exponent and estimate, relative to the mean of its truth, of every chain, (chains,); and how many diverged."""
    found = []
    for record in records:
        table = record.table("estimates")[["exponent", "llc"]]
        found.append(table.assign(llc=table.llc / table.llc.mean() - 1))
    table = pd.concat(found) if found else pd.DataFrame({"exponent": [], "llc": []})
    known = table.dropna()
    return known.exponent.to_numpy(), known.llc.to_numpy(), len(table) - len(known)


def truth_mean(record: Record) -> float:
    return float(record.table("estimates").llc.mean())
