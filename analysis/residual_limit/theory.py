"""Sections 3 and 4: starts and scalings, the ReLU counter-example, Euler's method, closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.residual_limit.common import LAW, PAPER, depth_axis, guide, lost, plt
from reprod.analysis.residual_limit.depth import power_law, slopes
from reprod.config import Config, at_scale
from reprod.figures.alter import altered
from reprod.figures.claims import Claim, Equals, Exact, our_limit
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import BLUE, GREEN, PURPLE, RED, shades
from reprod.residual_limit.config import ResnetLipschitz, ResnetTheory

VARIANTS: dict[str, dict[str, Any]] = {
    "tied, scaling of the scripts": {},
    "tied, scaling of the paper": {"scaling": "paper"},
    "Gaussian process, scripts": {"init": "gp"},
    "i.i.d., scripts (control)": {"init": "iid"},
}
CONTROL_DEPTHS = (16, 64, 256)
SEEDS = {"paper": (2, 0, 1, 3, 4), "small": (2, 0, 1, 3, 4), "smoke": (2,)}


@figure("theory", source=f"{PAPER}, sections 3 and 4", experiments=("resnet_lipschitz", "resnet_theory"))
class Theory:
    """Left: largest distance of neighbouring layers over training against the depth: 1/L under both scalings and for a
    smooth random start, no decay for independent layers. Middle: the ReLU counter-example, whose layers start O(1/L)
    apart and end a distance of order 1 apart. Right: distance of the net to the neural ODE of its weights."""

    def runs(self, scale: str) -> list[Config]:
        nets: list[Config] = []
        for settings in VARIANTS.values():
            shorter = {"depths": CONTROL_DEPTHS} if settings else {}
            nets.append(at_scale(ResnetLipschitz, scale, seeds=SEEDS[scale], **settings, **shorter))
        return [*nets, at_scale(ResnetTheory, scale)]

    def draw(self, runs: Runs) -> Drawing:
        fig, (left, middle, right) = plt().subplots(1, 3, figsize=(9.6, 3.3))
        rows = []
        markers = zip(VARIANTS, (BLUE, GREEN, PURPLE, RED), "osD^", strict=True)
        for (name, colour, marker), (_, records) in zip(markers, runs.of("resnet_lipschitz"), strict=True):
            depths = np.array(records[0].array("depths"))
            values = np.array(records[0].array("inc_max")).max(1)
            left.plot(depths, values, f"{marker}-", color=colour, label=name)
            rows += [
                {"panel": "increments", "curve": name, "x": L, "y": v} for L, v in zip(depths, values, strict=True)
            ]
        base = np.array(runs.records[0].array("depths"))
        guide(left, base.astype(float), 3.0 * np.array(runs.records[0].array("inc_max")).max(1)[0], -1.0, "$L^{-1}$")
        depth_axis(left, base)
        left.set_ylabel(r"$\max_{t,k}\ \|Z_{k+1}-Z_k\|_F$")
        handles, words = left.get_legend_handles_labels()
        fig.legend(handles[:-1], words[:-1], loc="outside lower center", ncols=4, title="left panel")
        (config, (record, *_)), *_ = runs.of("resnet_theory")
        weights = np.array(record.array("relu_weights"))
        limit = 2 * config.half_depth * (config.target ** (1 / config.half_depth) - 1)
        shown = [0, 1, 2, 4, 8, len(weights) - 1]
        for r, colour in zip(shown, shades(len(shown)), strict=True):
            middle.plot(weights[r], ".", color=colour, ms=2.5, label=f"{r / (len(weights) - 1):.0%}")
            rows += [{"panel": "relu", "curve": f"record {r}", "x": k + 1, "y": w} for k, w in enumerate(weights[r])]
        middle.axhline(limit, ls="--", color="black", lw=0.9)
        middle.set(xlabel="layer $k$", ylabel="$w_k$", title="ReLU counter-example", ylim=(-0.1, 1.75 * limit))
        middle.legend(title="share of the training time", ncols=3, loc="upper center", markerscale=3)
        euler = record.table("euler")
        x, error = euler.depth.to_numpy(), euler.error.to_numpy()
        right.plot(x, error, "o-", color=BLUE, label="net against the ODE")
        guide(right, x.astype(float), 1.6 * error[0], -1.0, "$L^{-1}$")
        right.set(xscale="log", yscale="log", xlabel="depth $L$", ylabel=r"$\max\ |F^L-F_{\mathrm{ODE}}|$")
        right.set_xticks(x, [str(L) for L in x])
        right.minorticks_off()
        right.set_title("Euler's method")
        right.legend()
        left.set_title("neighbouring layers")
        rows += [{"panel": "euler", "curve": "error", "x": L, "y": v} for L, v in zip(x, error, strict=True)]
        checks = record.table("checks")
        rows += [
            {"panel": "checks", "curve": c.name, "x": c.expected, "y": c.value} for c in checks.itertuples(index=False)
        ]
        remarks = f"seed {runs.records[0].seed}; {checks.passed.sum()} of {len(checks)} checks pass"
        return Drawing(fig, pd.DataFrame(rows), remarks)

    def claims(self, runs: Runs) -> list[Claim]:
        found: list[Claim] = []
        for name, (config, records) in zip(VARIANTS, runs.of("resnet_lipschitz"), strict=True):
            independent = config.init == "iid"
            wrong, right = (-0.5, 0.0) if independent else (-0.9, -1.0)
            found.append(
                Equals(
                    name=f"slope_{config.scaling}_{config.init}",
                    statement=f"exponent of L of the distance of neighbouring layers: {name}",
                    source=f"{PAPER}, section 4", published=f"{right:.0f}",
                    basis="printed (no ODE structure to preserve)" if independent else "printed (theorem)",
                    samples=[slopes(r, "published")[-1] for r in records], unsuccessful=lost(config, records),
                    paper_n=1, target=right, tolerance=0.1 if independent else 0.03, fmt=".3f", each=True,
                    why="the largest of L increments grows slowly with L" if independent else LAW,
                    run_ids=tuple(r.id for r in records),
                    refuted_by=with_power(wrong), confirmed_by=with_power(right),
                )
            )  # fmt: skip
        records = runs.of("resnet_theory").records
        checks = pd.concat([r.table("checks") for r in records])
        return [*found, *(check(rows, tuple(r.id for r in records)) for _, rows in checks.groupby("name", sort=False))]


def with_power(power: float) -> Callable[[Runs], Runs]:
    """Five seeds whose layers are L^power apart."""
    return lambda given: altered(given, seeds=5, arrays={"lip_paper": power_law(power)})


def check(rows: pd.DataFrame, run_ids: tuple[str, ...]) -> Claim:
    """A statement with a closed form, or a limit, to compare with; a row for each seed."""
    row = rows.iloc[0]

    def shifted(by: float) -> Any:
        def change(frame: pd.DataFrame, _: Any) -> pd.DataFrame:
            frame.loc[frame.name == row["name"], "value"] = frame.expected + by * (2 * frame.tolerance + 1e-9)
            return frame

        return lambda given: altered(given, tables={"checks": change})

    return Exact(
        name=str(row["name"]), statement=str(row.says), source=f"{PAPER}, theory", published=f"{row.expected:.6g}",
        basis=our_limit(f"closed form or limit, met within {row.tolerance:.2g}"), paper_n=1, fmt=".6g",
        value=rows.value.tolist(), target=rows.expected.tolist(), rounding=float(rows.tolerance.min()),
        run_ids=run_ids, refuted_by=shifted(1.0), confirmed_by=shifted(0.0),
    )  # fmt: skip
