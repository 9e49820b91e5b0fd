"""Figure 14: the estimate under the rescaling symmetry of ReLU networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.analysis.learning_coefficient.common import (
    PAPER,
    _verdict,
    plt,
)
from reprod.config import Config, at_scale
from reprod.figures.figure import Claim, Drawing, Runs, figure
from reprod.figures.style import BLUE, GREEN, ORANGE
from reprod.learning_coefficient.config import (
    RescalingInvariance,
)

if TYPE_CHECKING:
    from reprod.store import Record

RESCALED = {1: (10, 20), 2: (20, 30), 3: (30, 40)}  # model -> inputs, hidden units


def _rescalings(scale: str) -> list[Config]:
    if scale == "smoke":
        return [at_scale(RescalingInvariance, scale)]
    # Two of the three networks at small scale: each costs minutes.
    models = {"small": (1, 2)}.get(scale, tuple(RESCALED))
    settings: dict[int, dict[str, Any]] = {i: {} for i in RESCALED}
    if scale == "small":
        settings[2] = {"exponents": (-4.0, -1.0, 0.0, 1.0, 4.0), "chains": 2}
    return [
        at_scale(RescalingInvariance, scale, input_width=RESCALED[i][0], width=RESCALED[i][1], **settings[i])
        for i in models
    ]


def by_factor(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Exponents of the factors, ascending, (factors,), and the estimates of all chains, (factors, chains)."""
    wide = record.table("estimates").pivot(index="exponent", columns="chain", values="llc")
    return wide.index.to_numpy(), wide.to_numpy()


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
                ax.errorbar(10**exponents, llc.mean(axis=1), deviation, fmt="o-", capsize=2.5, color=color, label=name)
                table += [
                    {"network": name, "factor": 10**e, "chain": i, "llc": v}
                    for e, values in zip(exponents, llc, strict=True)
                    for i, v in enumerate(values)
                ]
        ax.set(xscale="log", xlabel="factor of the first layer", ylabel=r"estimate $\hat\lambda$", ylim=(0, None))
        ax.legend(title="network")
        return Drawing(fig, pd.DataFrame(table))

    def claims(self, runs: Runs) -> list[Claim]:
        published = {20: (166.41, "166.41 +- 2.73, factor means 164.69 to 168.45"),
                     30: (536.99, "536.99 +- 6.20, factor means 533.13 to 541.96")}  # fmt: skip
        claims = []
        for config, records in runs:
            for record in records:
                _, llc = by_factor(record)
                means = llc.mean(axis=1)
                spread = float(np.ptp(means) / means.mean())
                name = f"{config.input_width}-{config.width}-{config.input_width}"
                number, words = published.get(config.width, (math.nan, "not given"))
                error = 1.96 * llc.std(ddof=1) / math.sqrt(llc.size)
                verdict, reason = _verdict(runs, spread <= 0.05)
                claims.append(Claim(
                    name=f"rescaling invariance, {name}",
                    statement="the estimate does not depend on the factor over eight decades", source=f"{PAPER}, F14",
                    published=words, ours=f"{llc.mean():.2f} +- {llc.std(ddof=1):.2f}, factor means {means.min():.2f}"
                    f" to {means.max():.2f} (range {spread:.1%} of the mean)", verdict=verdict, reason=reason,
                    value=spread, n=llc.size, run_ids=(record.id,),
                ))  # fmt: skip
                verdict, reason = _verdict(runs, abs(llc.mean() / number - 1) <= 0.15, enough=not math.isnan(number))
                claims.append(Claim(
                    name=f"value, {name}", statement="size of the estimate (the truth is another random draw: 15 %)",
                    source=f"{PAPER}, F14", published=words, ours=f"{llc.mean():.2f}", verdict=verdict, reason=reason,
                    value=float(llc.mean()), interval=(llc.mean() - error, llc.mean() + error), n=llc.size,
                    run_ids=(record.id,),
                ))  # fmt: skip
                same = record.metrics.get("same_noise/relative_difference", math.nan)
                verdict, reason = _verdict(runs, same < 1e-3)
                claims.append(Claim(
                    name=f"equivariance, {name}", statement="the same noise gives the same estimate at another factor",
                    source=f"{PAPER}, notebook", published="173.99768 and 173.99757 (6e-7)",
                    ours=f"relative difference {same:.1e} at factor 1000", verdict=verdict, reason=reason, value=same,
                    n=1, run_ids=(record.id,),
                ))  # fmt: skip
        return claims
