"""Figure 2: training for long. Weights against the layer, and the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.analysis.residual_limit.common import PAPER, RERUN, lost, plt
from reprod.config import Config, at_scale
from reprod.figures.alter import Case, altered
from reprod.figures.claims import AtMost, Claim, Exact, our_limit
from reprod.figures.figure import Drawing, Runs, figure
from reprod.figures.style import BLUE
from reprod.residual_limit import rates
from reprod.residual_limit.config import ResnetLongTime
from reprod.training import stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reprod.store import Record

SEEDS = {"paper": (0, 1, 2, 3, 4), "small": (0, 1, 2, 3, 4), "smoke": (0,)}  # the paper's one first

# Iterations at which the loss falls below a level, and how near they have to be: the draws are those of the script, so
# that nothing but rounding differs.
CROSSINGS = {1e-1: (3.4e3, 0.02), 1e-4: (3.0e4, 0.02), 1e-7: (7.5e4, 0.04)}


def curves(ax: Axes, values: np.ndarray, label: str, *, most: int, width: float = 0.5) -> None:
    """One line against the layer for each record (records, k), lighter for later ones."""
    from matplotlib.collections import LineCollection

    chosen = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(int))
    k = np.arange(values.shape[1])
    lines = [np.column_stack([k, values[r]]) for r in chosen]
    colours = plt().matplotlib.colormaps["viridis"](chosen / max(len(values) - 1, 1))
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=width, rasterized=True))
    ax.autoscale_view()
    ax.set(xlabel="layer $k$", ylabel=label)


def crossing(record: Record, level: float) -> int:
    """The first iteration at which the loss is below a level; their number, where none is."""
    loss = np.array(record.array("loss"))
    (found,) = rates.crossings(loss, (level,))
    return len(loss) if found is None else found


def rises(record: Record) -> int:
    """Iterations at which the loss does not fall."""
    return int((~(np.diff(np.array(record.array("loss"))) < 0)).sum())


def moved(record: Record) -> float:
    """The largest move of a recorded entry of V or W in the second half of the training."""
    halves = [values[len(values) // 2 :] for values in (np.array(record.array(f"{name}_rec")) for name in "VW")]
    return max(float(np.abs(values - values[0]).max()) for values in halves)


def roughness(record: Record) -> float:
    """How far the recorded entries of V go from layer to layer at the end: rms increment over standard deviation, both
    over the layers. White noise: sqrt 2; a smooth function of k/L: O(1/L)."""
    V = np.array(record.array("V_rec"))[-1]
    return float(np.sqrt(np.square(np.diff(V, axis=0)).mean() / V.var(axis=0).mean()))


def largest_step(record: Record) -> float:
    """max_k |V_{k+1} - V_k|_F at the end."""
    return float(np.array(record.array("inc_max"))[-1, 0])


@figure("fig2", source=f"{PAPER}, figure 2", experiments=("resnet_long_time",))
class LongTraining:
    """One entry of V_k and one of W_k against the layer k during long training (lighter is later), and the training
    loss."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(ResnetLongTime, scale, seeds=SEEDS[scale])]

    def draw(self, runs: Runs) -> Drawing:
        (config, records), *_ = runs
        record = records[0]
        fig, axes = plt().subplots(1, 3, figsize=(8.4, 2.4), width_ratios=(1.15, 1.15, 1))
        i, j = 0, min(1, config.entries - 1)
        tables = []
        for ax, name in zip(axes, "VW", strict=False):
            values = np.array(record.array(f"{name}_rec"))[:, :, i, j]
            curves(ax, values, rf"a coeff. of ${name}_k^L(t)$", most=800)
            last = values[-1]
            tables.append(pd.DataFrame({"quantity": f"last {name}_rec[{i},{j}]", "x": np.arange(len(last)), "y": last}))
        span = plt().matplotlib.colors.Normalize(0, config.iterations)
        fig.colorbar(plt().cm.ScalarMappable(span, "viridis"), ax=axes[1], label="iteration")
        loss = np.array(record.array("loss"))[::10]
        t = 10 * np.arange(len(loss))
        axes[2].semilogy(t, loss, color=BLUE)
        axes[2].set(xlabel="iteration", ylabel="training loss")
        if loss.min() < 1e-4:
            axes[2].set_yticks([1e-1, 1e-4, 1e-7])
        axes[2].minorticks_off()
        kept = slice(None, None, max(1, len(t) // 500))
        tables.append(pd.DataFrame({"quantity": "loss", "x": t[kept], "y": loss[kept]}))
        return Drawing(fig, pd.concat(tables), f"seed {record.seed}, float64; entry ({i}, {j})")

    def claims(self, runs: Runs) -> list[Claim]:
        (config, records), *_ = runs
        published = [r for r in records if r.seed == SEEDS["paper"][0]]  # the script's draws
        common: dict[str, Any] = {"source": f"{PAPER}, figure 2", "unsuccessful": lost(config, records), "paper_n": 1}
        single = {"source": common["source"], "unsuccessful": int(not published), "paper_n": 1}
        rerun = our_limit(f"{RERUN}, give it to two digits; the figure has no numbers")

        def with_(**arrays: Callable[[np.ndarray, Case], np.ndarray]) -> Callable[[Runs], Runs]:
            return lambda given: altered(given, seeds=5, arrays=arrays)

        def falls(values: np.ndarray, case: Case) -> np.ndarray:
            return 5e-8 * np.exp(-np.arange(len(values)) / len(values))

        def steps(values: np.ndarray, case: Case) -> np.ndarray:  # a loss that crosses the levels when it should
            knots = [0, *(t for t, _ in CROSSINGS.values()), 8e4]
            return np.exp(np.interp(np.arange(80_000), knots, np.log([2.0, *CROSSINGS, 5e-8])))

        found: list[Claim] = [
            Exact(
                name=f"crossing_{level:.0e}",
                statement=f"iteration at which the loss falls below {level:.0e} (within {100 * share:.0f} %)",
                published=f"{target:.2g}", basis=rerun, **single, fmt=".0f",
                value=[crossing(r, level) for r in published], target=target, rounding=share * target,
                refuted_by=with_(loss=lambda values, case: steps(values, case)[::2]), confirmed_by=with_(loss=steps),
            )
            for level, (target, share) in CROSSINGS.items()
        ]  # fmt: skip
        return [
            *found,
            AtMost(
                name="decreasing", statement="the loss falls at every iteration: iterations at which it does not",
                published="none", basis="read off the figure", **common, each=True,
                samples=[rises(r) for r in records], bound=0,
                refuted_by=with_(loss=lambda values, case: np.r_[falls(values, case)[:-1], 1.0]),
                confirmed_by=with_(loss=falls),
            ),
            Exact(
                name="final_loss", statement="loss after the last iteration (to its one digit)", published="5e-8",
                basis=rerun, **single, value=[float(np.array(r.array("loss"))[-1]) for r in published], target=5e-8,
                rounding=0.5e-8,
                refuted_by=with_(loss=lambda values, case: 2 * steps(values, case)), confirmed_by=with_(loss=steps),
            ),
            AtMost(
                name="frozen", statement="weights freeze: largest move of an entry in the second half of the training",
                published="they do", basis=our_limit(f"0.01, what the {RERUN}, show"), **common, each=True,
                samples=[moved(r) for r in records], bound=0.01,
                refuted_by=with_(W_rec=drift(0.1)), confirmed_by=with_(V_rec=drift(1e-3), W_rec=drift(1e-3)),
            ),
            AtMost(
                name="smooth", statement="V stays smooth in the layer: rms increment over standard deviation",
                published="smooth (by eye)", basis=our_limit("a third; white noise has 1.41"), **common, each=True,
                samples=[roughness(r) for r in records], bound=1 / 3,
                refuted_by=with_(V_rec=lambda values, case: stream(0, "noise").normal(size=values.shape)),
                confirmed_by=with_(V_rec=wave),
            ),
            Exact(
                name="largest_step", statement="with a large constant: max_k |V_(k+1) - V_k|_F at the end, times L",
                published="66", basis=rerun, **single, fmt=".0f",
                value=[config.depth * largest_step(r) for r in published], target=66, rounding=1,
                refuted_by=with_(inc_max=lambda values, case: 0 * values + 33 / case.config.depth),
                confirmed_by=with_(inc_max=lambda values, case: 0 * values + 66 / case.config.depth),
            ),
        ]  # fmt: skip


def drift(far: float) -> Callable[[np.ndarray, Case], np.ndarray]:
    """Entries that move evenly, by `far` in the second half."""

    def change(values: np.ndarray, case: Case) -> np.ndarray:
        return values[:1] + 2 * far * np.linspace(0, 1, len(values))[:, None, None, None]

    return change


def wave(values: np.ndarray, case: Case) -> np.ndarray:
    """Entries that are one wave over the layers."""
    k = np.arange(values.shape[1]) / values.shape[1]
    return np.broadcast_to(np.cos(2 * np.pi * k)[None, :, None, None], values.shape)


@figure("fig2_entries", source=f"{PAPER}, figure 2, all entries", experiments=("resnet_long_time",))
class LongTrainingEntries:
    """All recorded entries of V_k (top) and W_k (bottom) against the layer k in long training (lighter is later)."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(ResnetLongTime, scale, seeds=SEEDS[scale][:1])]

    def draw(self, runs: Runs) -> Drawing:
        record = runs.records[0]
        V, W = (np.array(record.array(f"{name}_rec")) for name in "VW")
        e = V.shape[-1]
        fig, axes = plt().subplots(2 * e, e, figsize=(1.9 * e, 2 * 1.15 * e), sharex=True, squeeze=False)
        rows = []
        for half, (name, values) in enumerate((("V", V), ("W", W))):
            for i in range(e):
                for j in range(e):
                    ax = axes[half * e + i, j]
                    curves(ax, values[:, :, i, j], "", most=100, width=0.4)
                    ax.set_xlabel("layer $k$" if half * e + i == 2 * e - 1 else "")
                    ax.set_title(f"${name}_k$ [{i}, {j}]", fontsize=7.5, pad=2)
                    ax.tick_params(labelsize=6.5)
                    rows += [
                        {"weights": name, "i": i, "j": j, "k": k, "last": v} for k, v in enumerate(values[-1, :, i, j])
                    ]
        return Drawing(fig, pd.DataFrame(rows), f"seed {record.seed}")
