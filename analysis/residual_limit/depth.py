"""Figure 1: what the depth changes. Neighbouring layers come closer (left), weights tend to a limit (right)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.analysis.residual_limit.common import (
    LAW,
    PAPER,
    depth_axis,
    exponents,
    farthest,
    guide,
    lost,
    plt,
)
from reprod.config import Config, at_scale
from reprod.figures.alter import Case, altered
from reprod.figures.claims import All, AtLeast, AtMost, Claim, Equals, Ordered, our_limit
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import shades
from reprod.residual_limit.config import ResnetConvergence, ResnetLipschitz

if TYPE_CHECKING:
    from reprod.store import Record

Law = Callable[[np.ndarray, Case], np.ndarray]


def power_law(power: float, axis: int = 0) -> Law:
    """Distances that are L^power along an axis, from those of the deepest net."""

    def change(values: np.ndarray, case: Case) -> np.ndarray:
        depths = np.array(case.record.array("depths"), float)
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        return values.take([-1], axis) * (depths / depths[-1]).reshape(shape) ** power

    return change


# -- figure 1 left ----------------------------------------------------------------------------------------------------

SEEDS = {"paper": (2, 0, 1, 3, 4), "small": (2, 0, 1, 3, 4), "smoke": (2,)}  # the paper's one first
EARLIEST = 6  # training time from which layers differ by more than rounding


def drawable(record: Record) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Training times whose curve is not zero, depths, and the two norms (L, T)."""
    T, depths = np.array(record.array("T")), np.array(record.array("depths"))
    norms = {"published": np.array(record.array("lip_paper")), "script": np.array(record.array("lip_code")).max(0)}
    kept = ~(norms["published"] == 0).any(0)
    return T[kept], depths, {name: values[:, kept] for name, values in norms.items()}


def slopes(record: Record, norm: str) -> np.ndarray:
    """The exponent of L at each training time from `EARLIEST`."""
    T, depths, norms = drawable(record)
    return exponents(depths, norms[norm][:, T >= EARLIEST])


def flatness(record: Record) -> float:
    """Spread over L >= 64 of L times the distance, relative to its mean, at the time when it is largest."""
    T, depths, norms = drawable(record)
    scaled = (depths[:, None] * norms["published"])[depths >= 64][:, T >= EARLIEST]
    if len(scaled) < 2 or not np.isfinite(scaled).all():
        return float("nan")
    return float((np.ptp(scaled, axis=0) / scaled.mean(0)).max())


def growth(record: Record) -> tuple[float, float]:
    """How L times the distance y of the deepest net grows from the first time at or behind `EARLIEST` to the last:
    its factor, and the share of log(factor) that is exponential.

    The share is a (T_last - T_first) / log(factor) in the fit log y = c + p log T + a T: 1 for an exponential, 0 for a
    power of T.
    """
    T, _, norms = drawable(record)
    late = T >= EARLIEST
    T, y = T[late].astype(float), norms["published"][-1, late]
    if not (y > 0).all():
        return float("nan"), float("nan")
    if y[-1] == y[0]:
        return 1.0, float("nan")
    design = np.column_stack([np.ones_like(T), np.log(T), T])
    rate = np.linalg.lstsq(design, np.log(y), rcond=None)[0][2]
    return float(y[-1] / y[0]), float(rate * (T[-1] - T[0]) / np.log(y[-1] / y[0]))


def in_time(curve: Callable[[np.ndarray], np.ndarray]) -> Law:
    """Distances of order 1/L that go with the training time T as `curve(T / T_last)`."""

    def change(values: np.ndarray, case: Case) -> np.ndarray:
        T = np.array(case.record.array("T"), float)
        return power_law(-1.0)(values, case)[:, -1:] * curve(T / T[-1])

    return change


def at_one_time(values: np.ndarray, case: Case) -> np.ndarray:
    """1/L, but L^(-1/2) at one time in the middle."""
    right, wrong = power_law(-1.0)(values, case), power_law(-0.5)(values, case)
    middle = values.shape[1] // 2
    right[:, middle] = wrong[:, middle]
    return right


def at_one_depth(values: np.ndarray, case: Case) -> np.ndarray:
    """1/L, but a fifth more for the deepest net."""
    right = power_law(-1.0)(values, case)
    right[-1] *= 1.2
    return right


@figure("fig1_left", source=f"{PAPER}, figure 1 left", experiments=("resnet_lipschitz",))
class NeighbouringLayers:
    """Largest distance of neighbouring layers during the first T iterations against the depth L. Left: the norm of the
    paper, of order 1/L. Right: what the released script plots, a root of the sum of squares over iterations and
    layers, of order L^(-1/2). T = 1 is zero and left out."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(ResnetLipschitz, scale, seeds=SEEDS[scale])]

    def draw(self, runs: Runs) -> Drawing:
        record = runs.records[0]
        T, depths, norms = drawable(record)
        fig, axes = plt().subplots(1, 2, figsize=(7.2, 2.9))
        labels = {
            "published": r"$\max_{t<T,\,k}\ \|Z_{k+1}(t)-Z_k(t)\|_F$",
            "script": r"root of sum over $t<T$ and $k$",
        }
        for ax, (name, power) in zip(axes, (("published", -1.0), ("script", -0.5)), strict=True):
            values = norms[name]
            for i, colour in enumerate(shades(len(T))):
                ax.plot(depths, values[:, i], "o-", ms=2.5, lw=1.6, color=colour, label=f"{T[i]}")
            guide(ax, depths.astype(float), 1.5 * values[0, -1], power, "$L^{-1}$" if power == -1 else "$L^{-1/2}$")
            depth_axis(ax, depths)
            ax.set_ylabel(labels[name])
            ax.set_title("published norm" if name == "published" else "norm of the released script")
        handles, words = axes[0].get_legend_handles_labels()
        handles.append(axes[1].get_legend_handles_labels()[0][-1])
        fig.legend(handles[:-1], [*words[:-1], "$L^{-1}$, $L^{-1/2}$"], loc="outside right center", title="$T$")
        rows = [
            {"norm": name, "L": L, "T": int(t), "value": values[i, j]}
            for name, values in norms.items()
            for i, L in enumerate(depths)
            for j, t in enumerate(T)
        ]
        return Drawing(fig, pd.DataFrame(rows), f"seed {record.seed}; T counts iterations")

    def claims(self, runs: Runs) -> list[Claim]:
        (config, records), *_ = runs
        last = int(np.array(records[0].array("T"))[-1]) if records else config.iterations
        every = [slopes(r, "published") for r in records]
        grown = [growth(r) for r in records]
        source = f"{PAPER}, figure 1 left"

        def lip_paper(change: Law) -> Callable[[Runs], Runs]:
            return lambda given: altered(given, seeds=5, arrays={"lip_paper": change})

        def lip_code(change: Law) -> Callable[[Runs], Runs]:
            return lambda given: altered(given, seeds=5, arrays={"lip_code": change})

        common: dict[str, Any] = {"source": source, "paper_n": 1, "unsuccessful": lost(config, records)}
        rate = partial(Equals, **common, fmt=".3f")
        return [
            rate(
                name="slope", statement=f"neighbouring layers are O(1/L) apart: exponent of L at T = {last}",
                published="-1", basis="printed (theorem and caption)", samples=[e[-1] for e in every],
                target=-1.0, tolerance=0.03, why=LAW,
                refuted_by=lip_paper(power_law(-0.9)), confirmed_by=lip_paper(power_law(-1.0)),
            ),
            rate(
                name="all_times", statement=f"the same at every time T >= {EARLIEST}: exponent farthest from -1",
                published="-1", basis="printed (theorem and caption)",
                samples=[farthest(e, -1.0) for e in every], target=-1.0, tolerance=0.03, why=LAW, each=True,
                refuted_by=lip_paper(at_one_time), confirmed_by=lip_paper(power_law(-1.0)),
            ),
            rate(
                name="script", statement="the norm of the released script follows L^(-1/2), not 1/L", published="-0.5",
                basis=our_limit("closed form: the root of a sum of squares of L increments of order 1/L"),
                samples=[slopes(r, "script")[-1] for r in records], target=-0.5, tolerance=0.03, why=LAW,
                refuted_by=lip_code(power_law(-1.0, axis=1)), confirmed_by=lip_code(power_law(-0.5, axis=1)),
            ),
            AtMost(
                name="flat", statement="L times the distance does not depend on L: spread over L >= 64, any T",
                published="no dependence", **common, each=True,
                basis=our_limit("5 % over a factor of 16 in depth, an exponent off by 0.02"),
                samples=[flatness(r) for r in records], bound=0.05, factor=100, unit=" %",
                refuted_by=lip_paper(at_one_depth), confirmed_by=lip_paper(power_law(-1.0)),
            ),
            AtLeast(
                name="growth", statement=f"L times the distance grows with T: factor up to T = {last}",
                published="grows", basis=our_limit("at least doubles"), **common,
                samples=[factor for factor, _ in grown], bound=2.0,
                refuted_by=lip_paper(in_time(np.ones_like)), confirmed_by=lip_paper(in_time(lambda T: T**2)),
            ),
            AtMost(
                name="not_exponential", statement="it does not grow exponentially: share of its growth that is",
                published="at most T exp(alpha T)",
                basis=our_limit("less than half; the theory bounds it by an exponential"), **common,
                samples=[share for _, share in grown], bound=0.5, fmt=".2f",
                refuted_by=lip_paper(in_time(lambda T: np.exp(5 * T))), confirmed_by=lip_paper(in_time(lambda T: T**2)),
            ),
        ]  # fmt: skip


# -- figure 1 right ---------------------------------------------------------------------------------------------------

QUANTITIES = {"dV": "V in L2(ds)", "dW": "W in L2(ds)", "sup": "V and W, uniformly in s"}
TOLERANCE = {"paper": 0.02, "small": 0.03, "smoke": 0.03}  # of exponents: at small the fit stands on coarser depths
LIMIT_SEEDS = {"paper": (0, 1, 2, 3, 4), "small": (0, 1, 2, 3, 4), "smoke": (0,)}


def to_limit(record: Record, config: ResnetConvergence, name: str) -> np.ndarray:
    """The exponent of L in the distance `name` to the deepest net, at each iteration from `drop`."""
    late = np.array(record.array(name))[config.drop :].T
    return exponents(np.array(record.array("depths")), late, config.reference)


def rises(record: Record, config: ResnetConvergence) -> int:
    """In how many places (quantity, iteration, depth) the distance does not fall from one depth to the next."""
    return sum(int((~(np.diff(np.array(record.array(q))[config.drop :], axis=1) < 0)).sum()) for q in QUANTITIES)


def through_time(records: list[Record], config: ResnetConvergence, name: str) -> np.ndarray:
    """The mean over depths of the logarithm of a distance at ten iterations, (10, seeds)."""
    chosen = np.unique(np.linspace(config.drop, config.iterations - 1, 10).astype(int))
    return np.array([np.log(np.array(r.array(name))[chosen]).mean(1) for r in records]).T


def rate_to_limit(power: float) -> Law:
    """Distances that are (1/L - 1/Lref)^-power at all times, from those of the deepest net."""

    def change(values: np.ndarray, case: Case) -> np.ndarray:
        depths, reference = np.array(case.record.array("depths"), float), case.config.reference
        gap = 1 / depths - 1 / reference
        return values[:, -1:] * (gap / gap[-1]) ** -power

    return change


def one_rise(values: np.ndarray, case: Case) -> np.ndarray:
    """The distance of the deepest net is that of its neighbour, at the last iteration."""
    values[-1, -1] = values[-1, -2]
    return values


def in_order(values: np.ndarray, case: Case) -> np.ndarray:
    """Distances that rise in time."""
    return np.sort(values, axis=0)


def backwards(values: np.ndarray, case: Case) -> np.ndarray:
    """Distances in reverse order, but for the first, which vanish."""
    drop = case.config.drop
    return np.concatenate([values[:drop], np.sort(values, axis=0)[drop:][::-1]])


@figure("fig1_right", source=f"{PAPER}, figure 1 right", experiments=("resnet_convergence",))
class DistanceToTheLimit:
    """Distance of the weights of a net of depth L to those of a very deep one during training, in the L2 norm over the
    depth s; the first iterations are left out. Columns carry their true iteration."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(ResnetConvergence, scale, seeds=LIMIT_SEEDS[scale])]

    def draw(self, runs: Runs) -> Drawing:
        from matplotlib.colors import LogNorm

        (config, records), *_ = runs
        depths, first = np.array(records[0].array("depths")), config.drop
        fig, axes = plt().subplots(1, 2, figsize=(6.8, 2.7))
        rows = []
        for ax, name in zip(axes, "VW", strict=True):
            values = np.array(records[0].array(f"d{name}"))[first:].T
            iterations = first + values.shape[1]
            extent = (first - 0.5, iterations - 0.5, len(depths) - 0.5, -0.5)
            norm = LogNorm(values.min(), values.max())
            shown = ax.imshow(values, norm=norm, cmap="BuPu", interpolation="nearest", aspect="auto", extent=extent)
            ax.set_yticks(range(len(depths)), [str(L) for L in depths])
            ax.set(xlabel="training iteration", ylabel="depth $L$", title=rf"$\|{name}^L(\cdot,t)-{name}(\cdot,t)\|$")
            ax.grid(False)
            fig.colorbar(shown, ax=ax)
            rows += [
                {"weights": name, "L": L, "iteration": first + t, "distance": values[i, t]}
                for i, L in enumerate(depths)
                for t in range(0, values.shape[1], max(1, values.shape[1] // 50))
            ]
        remarks = f"seed {records[0].seed}; the limit is the net of depth {config.reference}; aligned as in the script"
        return Drawing(fig, pd.DataFrame(rows), remarks)

    def claims(self, runs: Runs) -> list[Claim]:
        (config, records), *_ = runs
        common: dict[str, Any] = {
            "source": f"{PAPER}, figure 1 right", "paper_n": 1, "unsuccessful": lost(config, records),
        }  # fmt: skip

        def with_(change: Law, *names: str) -> Callable[[Runs], Runs]:
            return lambda given: altered(given, seeds=5, arrays=dict.fromkeys(names, change))

        def rate(name: str, quantity: str, statement: str, samples: list[float], tolerance: float, why: str) -> Claim:
            return Equals(
                name=name, statement=statement, published="-1", basis="printed (theorem)", **common, samples=samples,
                target=-1.0, tolerance=tolerance, why=why, fmt=".3f", each=True,
                refuted_by=with_(rate_to_limit(-0.9), quantity), confirmed_by=with_(rate_to_limit(-1.0), quantity),
            )  # fmt: skip

        always = [
            rate(
                q, q, f"the distance to the limit is O(1/L) at every iteration from {config.drop}: exponent of "
                f"1/L - 1/Lref farthest from -1, {words}",
                [farthest(to_limit(r, config, q), -1.0) for r in records], TOLERANCE[runs.scale], LAW,
            )
            for q, words in QUANTITIES.items()
        ]  # fmt: skip
        aligned = [
            rate(
                f"{q} at the last iteration", f"{q}_paper", f"exponent, {words}",
                [float(to_limit(r, config, f"{q}_paper")[-1]) for r in records], 0.05,
                f"{LAW}; the map moves coarse nets by up to a layer",
            )
            for q, words in QUANTITIES.items()
        ]  # fmt: skip
        trend = [
            Ordered(
                name=q, statement=f"{QUANTITIES[q]} rises", published="yes", basis="read off the figure's colours",
                **common, samples=list(through_time(records, config, q)),
            )
            for q in ("dV", "dW")
        ]  # fmt: skip
        return [
            *always,
            AtMost(
                name="monotone", statement="the distance falls with L at every iteration: places where it does not",
                published="none", basis="read off the figure's colours", **common, each=True,
                samples=[rises(r, config) for r in records], bound=0,
                refuted_by=with_(one_rise, "dV"), confirmed_by=with_(rate_to_limit(-1.0), *QUANTITIES),
            ),
            All(
                name="time", statement="convergence is slower for larger training times: the distance grows with t",
                published="yes", basis="printed", source=common["source"], parts=trend,
                refuted_by=with_(backwards, "dV"), confirmed_by=with_(in_order, "dV", "dW"),
            ),
            All(
                name="alignment", statement="the rate is the same under the paper's map of layers to s",
                published="-1", basis="printed (theorem)", source=common["source"], parts=aligned,
                refuted_by=with_(rate_to_limit(-0.9), "dW_paper"),
                confirmed_by=with_(rate_to_limit(-1.0), "dV_paper", "dW_paper", "sup_paper"),
            ),
        ]  # fmt: skip
