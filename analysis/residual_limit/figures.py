"""Figures and claims of Marion et al. 2024, arXiv 2309.01213."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.config import Config, at_scale
from reprod.figures.claims import interval
from reprod.figures.figure import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, Claim, Drawing, Runs, figure
from reprod.figures.style import BLUE, GREEN, ORANGE, PURPLE, RED, shades
from reprod.residual_limit import rates
from reprod.residual_limit.config import (
    CifarResnet,
    ResnetConvergence,
    ResnetLipschitz,
    ResnetLongTime,
    ResnetTheory,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reprod.store import Record

PAPER = "Marion et al. 2024 (arXiv 2309.01213)"
RERUN = "released scripts as re-run by us, float64"
SHORT = (
    "short runs show nothing about accuracy or smoothness: residual gradients carry 1/L, and forgetting the start "
    "takes (1 - momentum)/(lr wd) = 5000 steps"
)


NO_INTERVAL = (math.nan, math.nan)


def _plt() -> Any:
    import matplotlib.pyplot as plt

    return plt


def _claim(
    runs: Runs,
    good: bool | None,
    name: str,
    statement: str,
    source: str,
    published: str,
    ours: str,
    *,
    value: float = math.nan,
    bounds: tuple[float, float] = (math.nan, math.nan),
    reason: str = "",
) -> Claim:
    """A claim on all of these runs. `good` None: not comparable, for this reason; nothing is judged at smoke scale."""
    if runs.scale == "smoke":
        good, reason = None, "smoke runs only show that everything works"
    verdict = NOT_COMPARABLE if good is None else REPRODUCED if good else NOT_REPRODUCED
    where = f"{PAPER}, {source}"
    return Claim(
        name, statement, where, published, ours, verdict, float(value), bounds, len(runs.records), reason, runs.ids
    )


def _over_seeds(fits: list[np.ndarray]) -> tuple[float, tuple[float, float], str]:
    """Mean slope, its interval (over seeds where there are several, else of the fit), and both in words."""
    values = [float(fit[0]) for fit in fits]
    bounds = interval(values) if len(values) > 1 else (float(fits[0][1]), float(fits[0][2]))
    mean = float(np.mean(values))
    return mean, bounds, f"{mean:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def _guide(ax: Axes, x: np.ndarray, start: float, power: float, label: str) -> None:
    ax.plot(x, start * (x / x[0]) ** power, "--", color="black", lw=0.9, label=label, zorder=1)


def _depth_axis(ax: Axes, depths: np.ndarray) -> None:
    ax.set(xscale="log", yscale="log", xlabel="depth $L$")
    ax.set_xticks(depths, [str(L) for L in depths])
    ax.minorticks_off()


# -- figure 1 left ----------------------------------------------------------------------------------------------------


def _drawable(record: Record) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Training times whose curve is not zero, depths, and the two norms (L, T)."""
    T, depths = np.array(record.array("T")), np.array(record.array("depths"))
    norms = {"published": np.array(record.array("lip_paper")), "script": np.array(record.array("lip_code")).max(0)}
    kept = norms["published"].min(0) > 0
    return T[kept], depths, {name: values[:, kept] for name, values in norms.items()}


@figure("resnet_fig1_left", source=f"{PAPER}, figure 1 left", experiments=("resnet_lipschitz",))
class NeighbouringLayers:
    """Largest distance of neighbouring layers during the first T iterations against the depth L. Left: the norm of the
    paper, of order 1/L. Right: what the released script plots, a root of the sum of squares over iterations and
    layers, of order L^(-1/2). T = 1 is zero and left out."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(ResnetLipschitz, scale)]

    def draw(self, runs: Runs) -> Drawing:
        plt = _plt()
        record = runs.records[0]
        T, depths, norms = _drawable(record)
        fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.9))
        labels = {
            "published": r"$\max_{t<T,\,k}\ \|Z_{k+1}(t)-Z_k(t)\|_F$",
            "script": r"root of sum over $t<T$ and $k$",
        }
        for ax, (name, power) in zip(axes, (("published", -1.0), ("script", -0.5)), strict=True):
            values = norms[name]
            for i, colour in enumerate(shades(len(T))):
                ax.plot(depths, values[:, i], "o-", ms=2.5, lw=1.6, color=colour, label=f"{T[i]}")
            _guide(ax, depths.astype(float), 1.5 * values[0, -1], power, "$L^{-1}$" if power == -1 else "$L^{-1/2}$")
            _depth_axis(ax, depths)
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
        records, source = runs.records, "figure 1 left"
        T = np.array(records[0].array("T"))
        mean, bounds, words = _over_seeds([np.array(r.array("slope_paper"))[-1] for r in records])
        script, script_bounds, script_words = _over_seeds([np.array(r.array("slope_code"))[-1] for r in records])
        every = np.array([np.array(r.array("slope_paper"))[T >= 6, 0] for r in records])
        worst = float(every.flat[np.abs(every + 1).argmax()])
        flat = max(_flatness(r) for r in records)
        growth = [_scaled(r) for r in records]
        grows = all(abs(a / 0.2 - 1) < 0.25 and 3.0 < b < 3.7 for a, b in growth)
        statements = [
            (
                abs(mean + 1) <= 0.03, "slope", f"neighbouring layers are O(1/L) apart: exponent of L at T = {T[-1]}",
                "-1", words, mean, bounds,
            ),
            (
                abs(worst + 1) <= 0.03, "all_times", "the same at every time T >= 6: exponent farthest from -1",
                "-1", f"{worst:.3f}", worst, NO_INTERVAL,
            ),
            (
                abs(script + 0.5) <= 0.02, "script", "the norm of the released script follows L^(-1/2), not 1/L",
                "-0.5 (closed form)", script_words, script, script_bounds,
            ),
            (
                flat < 0.015, "flat", "L times the distance does not depend on L: spread over L >= 64, any T >= 6",
                f"< 1.5 % ({RERUN})", f"{100 * flat:.2f} %", flat, NO_INTERVAL,
            ),
            (
                grows, "growth", f"L times the distance grows with T, but not exponentially: T = 51 and {T[-1]}",
                f"0.2, and 3.6 at T = 500 ({RERUN})", "; ".join(f"{a:.2f}, {b:.2f}" for a, b in growth), growth[0][1],
                NO_INTERVAL,
            ),
        ]  # fmt: skip
        return [
            _claim(runs, good, f"resnet_fig1_left/{n}", what, source, published, ours, value=v, bounds=b)
            for good, n, what, published, ours, v, b in statements
        ]


def _flatness(record: Record) -> float:
    T, depths = np.array(record.array("T")), np.array(record.array("depths"))
    scaled = depths[:, None] * np.array(record.array("lip_paper"))
    part = scaled[depths >= 64][:, T >= 6]
    return float((np.ptp(part, axis=0) / part.mean(0)).max()) if len(part) > 1 else math.nan


def _scaled(record: Record) -> tuple[float, float]:
    """L times the distance of the deepest net at T = 51 (or the first drawn) and at the last T."""
    T, depths, norms = _drawable(record)
    row = depths[-1] * norms["published"][-1]
    return float(row[np.abs(T - 51).argmin()]), float(row[-1])


# -- figure 1 right ---------------------------------------------------------------------------------------------------


@figure("resnet_fig1_right", source=f"{PAPER}, figure 1 right", experiments=("resnet_convergence",))
class DistanceToTheLimit:
    """Distance of the weights of a net of depth L to those of a very deep one during training, in the L2 norm over the
    depth s; the first iterations are left out. Columns carry their true iteration."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(ResnetConvergence, scale)]

    def draw(self, runs: Runs) -> Drawing:
        from matplotlib.colors import LogNorm

        plt = _plt()
        (config, records), *_ = runs
        depths, first = np.array(records[0].array("depths")), config.drop
        fig, axes = plt.subplots(1, 2, figsize=(6.8, 2.7))
        rows = []
        for ax, name in zip(axes, "VW", strict=True):
            values = np.array(records[0].array(f"d{name}"))[first:].T
            iters = first + values.shape[1]
            extent = (first - 0.5, iters - 0.5, len(depths) - 0.5, -0.5)
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
        source = "figure 1 right"
        found = []
        names = {"dV": "V in L2(ds)", "dW": "W in L2(ds)", "sup": "V and W, uniformly in s"}
        for column, (name, words) in enumerate(names.items()):
            fits = [np.array(r.array("slopes"))[:, column, 1] for r in records]
            mean, bounds, ours = _over_seeds([fit[-1] for fit in fits])
            worst = max((abs(s + 1), s) for fit in fits for s in fit[config.drop :, 0])[1]
            what = f"exponent of the distance in 1/L - 1/Lref, {words}, last iteration"
            ours += f"; farthest from -1 at any t >= {config.drop}: {worst:.3f}"
            good, name = abs(worst + 1) <= 0.02, f"resnet_fig1_right/{name}"
            found.append(_claim(runs, good, name, what, source, "-1", ours, value=mean, bounds=bounds))
        decreasing = all(
            (np.diff(np.array(r.array(n))[config.drop :], axis=1) < 0).all() for r in records for n in names
        )
        late = all((np.array(r.array("dV"))[-1] > np.array(r.array("dV"))[config.drop]).all() for r in records)
        ratio = max(float((r.array("dV_paper")[-1] / r.array("dV")[-1]).max()) for r in records)
        what = "convergence is slower for larger training times: the distance grows with t"
        aligned = "the paper's map of layers to s instead of the script's: factor on d_V stays below 2, last iteration"
        return [
            *found,
            _claim(
                runs, decreasing, "resnet_fig1_right/monotone", "the distance falls with L at every iteration", source,
                "yes", "yes" if decreasing else "no",
            ),
            _claim(runs, late, "resnet_fig1_right/time", what, source, "yes", "yes" if late else "no"),
            _claim(
                runs, ratio < 2, "resnet_fig1_right/alignment", aligned, source, f"up to 1.7 ({RERUN})", f"{ratio:.2f}",
                value=ratio,
            ),
        ]  # fmt: skip


# -- figure 2 ---------------------------------------------------------------------------------------------------------


def _curves(ax: Axes, values: np.ndarray, label: str, *, most: int, width: float = 0.5) -> None:
    """One line against the layer for each record (records, k), lighter for later ones."""
    from matplotlib.collections import LineCollection

    chosen = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(int))
    k = np.arange(values.shape[1])
    lines = [np.column_stack([k, values[r]]) for r in chosen]
    colours = _plt().matplotlib.colormaps["viridis"](chosen / max(len(values) - 1, 1))
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=width, rasterized=True))
    ax.autoscale_view()
    ax.set(xlabel="layer $k$", ylabel=label)


@figure("resnet_fig2", source=f"{PAPER}, figure 2", experiments=("resnet_long_time",))
class LongTraining:
    """One entry of V_k and one of W_k against the layer k during long training (lighter is later), and the training
    loss."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(ResnetLongTime, scale)]

    def draw(self, runs: Runs) -> Drawing:
        plt = _plt()
        (config, records), *_ = runs
        record = records[0]
        fig, axes = plt.subplots(1, 3, figsize=(8.4, 2.4), width_ratios=(1.15, 1.15, 1))
        i, j = 0, min(1, config.entries - 1)
        tables = []
        for ax, name in zip(axes, "VW", strict=False):
            values = np.array(record.array(f"{name}_rec"))[:, :, i, j]
            _curves(ax, values, rf"a coeff. of ${name}_k^L(t)$", most=800)
            last = values[-1]
            tables.append(pd.DataFrame({"quantity": f"last {name}_rec[{i},{j}]", "x": np.arange(len(last)), "y": last}))
        span = plt.matplotlib.colors.Normalize(0, config.iters)
        fig.colorbar(plt.cm.ScalarMappable(span, "viridis"), ax=axes[1], label="iteration")
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
        source = "figure 2"
        losses = [np.array(r.array("loss")) for r in records]
        found = [
            _crossing(runs, losses, 1e-1, 3.4e3, 0.02, config.iters),
            _crossing(runs, losses, 1e-4, 3.0e4, 0.02, config.iters),
            _crossing(runs, losses, 1e-7, 7.5e4, 0.04, config.iters),
        ]
        falls = all((np.diff(loss) < 0).all() for loss in losses)
        words = "the loss decreases at every iteration"
        found.append(_claim(runs, falls, "resnet_fig2/decreasing", words, source, "yes", "yes" if falls else "no"))
        if config.iters < 80_000:
            return found
        half = config.iters // 2 // config.record_every
        entries = [np.array(r.array(f"{name}_rec"))[half:] for r in records for name in "VW"]
        moved = max(float(np.abs(values - values[0]).max()) for values in entries)
        final = float(np.mean([loss[-1] for loss in losses]))
        step = float(np.mean([np.array(r.array("inc_max"))[-1, 0] for r in records]))
        return [
            *found,
            _claim(
                runs, abs(final / 5e-8 - 1) <= 0.15, "resnet_fig2/final_loss", "loss after the last iteration", source,
                f"5e-8 ({RERUN})", f"{final:.3g}", value=final,
            ),
            _claim(
                runs, moved < 0.01, "resnet_fig2/frozen", "weights freeze: largest move of an entry in the second half",
                source, f"< 0.01 ({RERUN})", f"{moved:.4f}", value=moved,
            ),
            _claim(
                runs, abs(step - 1) < 0.1, "resnet_fig2/smooth",
                "layers stay close, with a large constant: max_k |V_{k+1} - V_k|_F at the end", source,
                f"1.0, that is 66/L ({RERUN})", f"{step:.3f}, that is {step * config.depth:.0f}/L", value=step,
            ),
        ]  # fmt: skip


def _crossing(
    runs: Runs, losses: list[np.ndarray], level: float, published: float, tolerance: float, iters: int
) -> Claim:
    """When the loss falls below a level. The published time has two digits, which adds 1.5 % to the tolerance."""
    times = [rates.crossings(loss, (level,))[0] for loss in losses]
    reached = [t for t in times if t is not None]
    good = len(reached) == len(times) and all(abs(t / published - 1) <= tolerance + 0.015 for t in reached)
    short = iters < 1.1 * published and not reached
    return _claim(
        runs, None if short else good, f"resnet_fig2/crossing_{level:.0e}",
        f"iteration at which the loss falls below {level:.0e} (within {100 * tolerance:.0f} %)", "figure 2",
        f"{published:.2g} ({RERUN})", ", ".join(str(t) for t in reached) or "not reached",
        value=float(np.mean(reached)) if reached else math.nan,
        reason=f"{iters} iterations do not reach it" if short else "",
    )  # fmt: skip


@figure("resnet_fig2_entries", source=f"{PAPER}, figure 2, all entries", experiments=("resnet_long_time",))
class LongTrainingEntries:
    """All recorded entries of V_k (top) and W_k (bottom) against the layer k in long training (lighter is later)."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(ResnetLongTime, scale)]

    def draw(self, runs: Runs) -> Drawing:
        plt = _plt()
        record = runs.records[0]
        V, W = (np.array(record.array(f"{name}_rec")) for name in "VW")
        e = V.shape[-1]
        fig, axes = plt.subplots(2 * e, e, figsize=(1.9 * e, 2 * 1.15 * e), sharex=True, squeeze=False)
        rows = []
        for half, (name, values) in enumerate((("V", V), ("W", W))):
            for i in range(e):
                for j in range(e):
                    ax = axes[half * e + i, j]
                    _curves(ax, values[:, :, i, j], "", most=100, width=0.4)
                    ax.set_xlabel("layer $k$" if half * e + i == 2 * e - 1 else "")
                    ax.set_title(f"${name}_k$ [{i}, {j}]", fontsize=7.5, pad=2)
                    ax.tick_params(labelsize=6.5)
                    rows += [
                        {"weights": name, "i": i, "j": j, "k": k, "last": v} for k, v in enumerate(values[-1, :, i, j])
                    ]
        return Drawing(fig, pd.DataFrame(rows), f"seed {record.seed}")


# -- figure 3, table 1, appendix --------------------------------------------------------------------------------------

SIGMAS = {"identity": "identity", "gelu": "GELU", "relu": "ReLU"}
INITS = {"tied": "tied", "iid": "i.i.d."}
SEEDS = {"paper": (0, 1, 2, 3, 4), "small": (0,), "smoke": (0,)}
TABLE_1 = {  # sigma, init -> train, test accuracy in per cent, smooth?
    ("identity", "tied"): (56.5, 59.8, True),
    ("identity", "iid"): (56.1, 59.6, False),
    ("gelu", "tied"): (80.5, 79.9, True),
    ("gelu", "iid"): (89.8, 85.7, False),
    ("relu", "tied"): (97.4, 88.1, False),
    ("relu", "iid"): (98.4, 88.4, False),
}


def _cells(scale: str, sigmas: tuple[str, ...]) -> list[Config]:
    cells = [(sigma, init) for sigma in sigmas for init in INITS]
    return [at_scale(CifarResnet, scale, sigma=s, init=i, seeds=SEEDS[scale]) for s, i in cells]


def _cell_table(runs: Runs) -> pd.DataFrame:
    """One row per run: accuracies, smoothness and how far the weights moved."""
    rows = []
    for config, records in runs:
        for r in records:
            m, smooth = r.metrics, np.array(r.array("smoothness"))[-1]
            rows.append({
                "sigma": config.sigma, "init": config.init, "seed": r.seed, "train": m["train/accuracy_last"],
                "test": m["test/accuracy_last"], "test_max": m["test/accuracy_max"],
                **{f"{name}_{i + 1}": smooth[i, q] for i in (0, 1)
                   for q, name in enumerate(("increment", "ratio", "autocorrelation"))},
                "moved_1": m["moved/conv_1"], "moved_2": m["moved/conv_2"], "epochs": config.epochs, "run_id": r.id,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _cifar_remark(runs: Runs) -> str:
    config = next(iter(runs))[0]
    what = f"depth {config.depth}, {config.epochs} epochs, {config.subset or 'all'} training images of {config.dataset}"
    return what if runs.scale == "paper" else f"{what}; {SHORT}"


def _short(runs: Runs) -> str:
    return "" if runs.scale == "paper" else SHORT


def _percent(part: float) -> str:
    return f"{100 * part:.2g} %"


def _long_enough(runs: Runs, good: bool) -> bool | None:
    """Only the published length is judged."""
    return good if runs.scale == "paper" else None


@figure("resnet_fig3", source=f"{PAPER}, figure 3", experiments=("cifar_resnet",))
class SmoothOrNot:
    """One entry of each of the two convolutions against the layer k after training on CIFAR-10, layers equal (left) or
    independent (right) at the start; GELU, batch normalisation."""

    def runs(self, scale: str) -> list[Config]:
        return _cells(scale, ("gelu",))

    def draw(self, runs: Runs) -> Drawing:
        plt = _plt()
        fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.0))
        teal = plt.matplotlib.colormaps["viridis"](0.6)
        rows = []
        for ax, (config, records) in zip(axes, runs, strict=True):
            record = records[0]
            entry = int(np.random.default_rng(0).integers(np.array(record.array("conv1")).shape[1]))
            for i, colour in ((1, teal), (2, "#9467BD")):
                values = np.array(record.array(f"conv{i}"))[:, entry]
                ax.plot(values, color=colour, label=f"$i={i}$")
                rows += [
                    {"init": config.init, "i": i, "entry": entry, "k": k, "value": v} for k, v in enumerate(values)
                ]
            smooth = np.array(record.array("smoothness"))[-1]
            ratio = ", ".join(f"{v:.2g}" for v in smooth[:, 1])
            ax.set_title(f"GELU, {INITS[config.init]} start: ratio {ratio}")
            ax.set(xlabel="layer $k$", ylabel=r"a coeff. of conv$_{i,k}^L$")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        remarks = f"{_cifar_remark(runs)}; entry {rows[0]['entry']}; ratio: mean_k |c_(k+1) - c_k| / mean_k |c_k|"
        return Drawing(fig, pd.DataFrame(rows), remarks)

    def claims(self, runs: Runs) -> list[Claim]:
        table = _cell_table(runs)
        found = []
        for init, published in (("tied", "smooth"), ("iid", "not smooth")):
            part = table[table.init == init]
            ratio = part[["ratio_1", "ratio_2"]].to_numpy().mean(axis=1)
            lag = float(part[["autocorrelation_1", "autocorrelation_2"]].to_numpy().mean())
            moved = float(part[["moved_1", "moved_2"]].to_numpy().mean())
            smooth = bool(ratio.mean() < 0.5 and lag > 0.5)
            ours = f"ratio {ratio.mean():.2g}, autocorrelation {lag:.2f}, weights moved {_percent(moved)}"
            what = f"weights of the GELU net are {published} after a start with {INITS[init]} layers"
            found.append(
                _claim(
                    runs.where(init=init), _long_enough(runs, smooth == (init == "tied")), f"resnet_fig3/{init}", what,
                    "figure 3", f"{published} (by eye)", ours, value=ratio.mean(), bounds=interval(list(ratio)),
                    reason=_short(runs),
                )
            )  # fmt: skip
        return found


@figure("resnet_table1", source=f"{PAPER}, table 1", experiments=("cifar_resnet",))
class AccuracyTable:
    """Accuracy on CIFAR-10 after the last epoch, median and quartiles over the runs, and the smoothness of the first
    convolution: ratio of mean increment to mean norm, and lag-1 autocorrelation over the layers."""

    def runs(self, scale: str) -> list[Config]:
        return _cells(scale, tuple(SIGMAS))

    def draw(self, runs: Runs) -> Drawing:
        plt = _plt()
        table = _cell_table(runs)
        quartiles = _quartiles(table)
        header = [r"$\sigma$", "start", "train %", "test %", "paper: train, test %", "ratio", "autocorr.", "moved", "n"]
        cells = []
        for row in quartiles.to_dict("records"):
            sigma, init = str(row["sigma"]), str(row["init"])
            train, test, smooth = TABLE_1[sigma, init]
            published = f"{train}, {test}, {'smooth' if smooth else 'not smooth'}"
            cells.append([
                SIGMAS[sigma], INITS[init], _spread(row, "train"), _spread(row, "test"), published,
                f"{row['ratio']:.2g}", f"{row['autocorrelation']:.2f}", _percent(row["moved"]), str(row["n"]),
            ])  # fmt: skip
        fig, ax = plt.subplots(figsize=(8.2, 0.32 * (len(cells) + 1.5)))
        ax.axis("off")
        widths = [0.08, 0.07, 0.15, 0.15, 0.23, 0.09, 0.09, 0.08, 0.04]
        drawn = ax.table(cells, colLabels=header, loc="center", cellLoc="center", colWidths=widths, edges="horizontal")
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
        drawn.scale(1, 1.35)
        return Drawing(fig, quartiles, _cifar_remark(runs))

    def claims(self, runs: Runs) -> list[Claim]:
        table = _cell_table(runs)
        quartiles = {(row["sigma"], row["init"]): row for row in _quartiles(table).to_dict("records")}
        source = "table 1 (second-hand)"
        found = []
        for (sigma, init), (train, test, _) in TABLE_1.items():
            row, part = quartiles[sigma, init], table[(table.sigma == sigma) & (table.init == init)]
            for split, published in (("train", train), ("test", test)):
                value = float(row[split])
                ours = f"{value:.1f} % (quartiles {row[split + '_q1']:.1f}, {row[split + '_q3']:.1f})"
                found.append(
                    _claim(
                        runs.where(sigma=sigma, init=init), _long_enough(runs, abs(value - published) <= 1.5),
                        f"resnet_table1/{sigma}_{init}_{split}",
                        f"{split} accuracy, {SIGMAS[sigma]}, {INITS[init]} start", source, f"{published} %", ours,
                        value=value, bounds=interval(list(part[split])), reason=_short(runs),
                    )
                )  # fmt: skip
        a, b, c, d, e = (
            float(quartiles[cell]["test"])
            for cell in (("identity", "tied"), ("gelu", "tied"), ("gelu", "iid"), ("relu", "tied"), ("relu", "iid"))
        )
        return [
            *found,
            _claim(
                runs, _long_enough(runs, a + 10 < b < c), "resnet_table1/order",
                "identity << GELU tied < GELU i.i.d. (test)", source, "59.8 < 79.9 < 85.7 %",
                f"{a:.1f}, {b:.1f}, {c:.1f} %", reason=_short(runs),
            ),
            _claim(
                runs, _long_enough(runs, abs(d - e) <= 1), "resnet_table1/relu",
                "ReLU: both starts within 1 point (test)", source, "88.1, 88.4 %", f"{d:.1f}, {e:.1f} %", value=e - d,
                reason=_short(runs),
            ),
        ]  # fmt: skip


def _quartiles(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for sigma in SIGMAS:
        for init in INITS:
            part = table[(table.sigma == sigma) & (table.init == init)]
            row: dict[str, Any] = {"sigma": sigma, "init": init, "n": len(part)}
            for split in ("train", "test"):
                q1, median, q3 = part[split].quantile([0.25, 0.5, 0.75])
                row |= {split: median, f"{split}_q1": q1, f"{split}_q3": q3}
            row |= {"test_max": part.test_max.median(), "ratio": part.ratio_1.median()}
            row |= {"autocorrelation": part.autocorrelation_1.median(), "moved": part.moved_1.median()}
            rows.append(row)
    return pd.DataFrame(rows)


def _spread(row: Any, split: str) -> str:
    median, q1, q3 = (float(row[name]) for name in (split, f"{split}_q1", f"{split}_q3"))
    return f"{median:.1f} [{q1:.1f}, {q3:.1f}]" if row["n"] > 1 else f"{median:.1f}"


@figure("resnet_increments", source=f"{PAPER}, appendix, additional plot", experiments=("cifar_resnet",))
class Increments:
    """Mean distance of neighbouring layers' convolutions after training on CIFAR-10 (GELU), for equal and independent
    layers at the start; dots are runs. The dashed line is the distance of independent layers at the start."""

    def runs(self, scale: str) -> list[Config]:
        return _cells(scale, ("gelu",))

    def draw(self, runs: Runs) -> Drawing:
        plt = _plt()
        table = _cell_table(runs)
        fig, ax = plt.subplots(figsize=(3.6, 2.8))
        for place, (init, colour) in enumerate((("tied", BLUE), ("iid", ORANGE))):
            part = table[table.init == init]
            for i in (1, 2):
                x, values = 3 * (i - 1) + place, part[f"increment_{i}"]
                ax.bar(x, values.mean(), color=colour, alpha=0.45, label=f"{INITS[init]} start" if i == 1 else None)
                ax.plot([x] * len(values), values, "o", color=colour, ms=3.5)
        planes = next(iter(runs))[0].planes
        start = math.sqrt(2 * 9 * planes**2) / (math.sqrt(9 * planes) * math.sqrt(3))
        ax.axhline(start, ls="--", color="black", lw=0.9, label="independent, at the start")
        ax.set(yscale="log", ylabel=r"mean$_k\ \|\mathrm{conv}_{i,k+1}-\mathrm{conv}_{i,k}\|_F$")
        ax.set_ylim(table[["increment_1", "increment_2"]].to_numpy().min() / 3, 3 * start)
        ax.set_xticks([0.5, 3.5], ["$i=1$", "$i=2$"])
        ax.grid(axis="x", visible=False)
        fig.legend(loc="outside upper center", ncols=3, columnspacing=1.0, handlelength=1.4)
        return Drawing(fig, table, _cifar_remark(runs))

    def claims(self, runs: Runs) -> list[Claim]:
        table = _cell_table(runs)
        tied, iid = (table.loc[table.init == i, ["increment_1", "increment_2"]].to_numpy().mean(0) for i in INITS)
        ratios = iid / tied
        good = bool(((ratios >= 5) & (ratios <= 30)).all())
        what = "neighbours after a tied start are an order of magnitude closer (i = 1, 2)"
        ours = ", ".join(f"{r:.3g}" for r in ratios)
        return [
            _claim(
                runs, _long_enough(runs, good), "resnet_increments/ratio", what, "appendix", "about 10", ours,
                value=ratios.mean(), reason=_short(runs),
            )
        ]  # fmt: skip


# -- theory -----------------------------------------------------------------------------------------------------------

VARIANTS: dict[str, dict[str, Any]] = {
    "tied, scaling of the scripts": {},
    "tied, scaling of the paper": {"scaling": "paper"},
    "Gaussian process, scripts": {"init": "gp"},
    "i.i.d., scripts (control)": {"init": "iid"},
}
CONTROL_DEPTHS = (16, 64, 256)


@figure("resnet_theory", source=f"{PAPER}, sections 3 and 4", experiments=("resnet_lipschitz", "resnet_theory"))
class Theory:
    """Left: largest distance of neighbouring layers over training against the depth: 1/L under both scalings and for a
    smooth random start, no decay for independent layers. Middle: the ReLU counter-example, whose layers start O(1/L)
    apart and end a distance of order 1 apart. Right: distance of the net to the neural ODE of its weights."""

    def runs(self, scale: str) -> list[Config]:
        nets: list[Config] = []
        for settings in VARIANTS.values():
            shorter = {"depths": CONTROL_DEPTHS} if settings else {}
            nets.append(at_scale(ResnetLipschitz, scale, **settings, **shorter))
        return [*nets, at_scale(ResnetTheory, scale)]

    def draw(self, runs: Runs) -> Drawing:
        plt = _plt()
        fig, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.3))
        rows = []
        depths = np.array(CONTROL_DEPTHS)
        markers = zip(VARIANTS, (BLUE, GREEN, PURPLE, RED), "osD^", strict=True)
        for (name, colour, marker), (_, records) in zip(markers, runs.of("resnet_lipschitz"), strict=True):
            depths = np.array(records[0].array("depths"))
            values = np.array(records[0].array("inc_max")).max(1)
            left.plot(depths, values, f"{marker}-", color=colour, label=name)
            rows += [
                {"panel": "increments", "curve": name, "x": L, "y": v} for L, v in zip(depths, values, strict=True)
            ]
        base = np.array(runs.records[0].array("depths"))
        _guide(left, base.astype(float), 3.0 * np.array(runs.records[0].array("inc_max")).max(1)[0], -1.0, "$L^{-1}$")
        _depth_axis(left, base)
        left.set_ylabel(r"$\max_{t,k}\ \|Z_{k+1}-Z_k\|_F$")
        handles, words = left.get_legend_handles_labels()
        fig.legend(handles[:-1], words[:-1], loc="outside lower center", ncols=4, title="left panel")
        (config, records), *_ = runs.of("resnet_theory")
        weights = np.array(records[0].array("relu_weights"))
        limit = 2 * config.half_depth * (config.target ** (1 / config.half_depth) - 1)
        shown = [0, 1, 2, 4, 8, len(weights) - 1]
        for r, colour in zip(shown, shades(len(shown)), strict=True):
            middle.plot(weights[r], ".", color=colour, ms=2.5, label=f"{r / (len(weights) - 1):.0%}")
            rows += [{"panel": "relu", "curve": f"record {r}", "x": k + 1, "y": w} for k, w in enumerate(weights[r])]
        middle.axhline(limit, ls="--", color="black", lw=0.9)
        middle.set(xlabel="layer $k$", ylabel="$w_k$", title="ReLU counter-example", ylim=(-0.1, 1.75 * limit))
        middle.legend(title="share of the training time", ncols=3, loc="upper center", markerscale=3)
        x, error = np.array(records[0].array("euler_depths")), np.array(records[0].array("euler_error"))
        right.plot(x, error, "o-", color=BLUE, label="net against the ODE")
        _guide(right, x.astype(float), 1.6 * error[0], -1.0, "$L^{-1}$")
        right.set(xscale="log", yscale="log", xlabel="depth $L$", ylabel=r"$\max\ |F^L-F_{\mathrm{ODE}}|$")
        right.set_xticks(x, [str(L) for L in x])
        right.minorticks_off()
        right.set_title("Euler's method")
        right.legend()
        left.set_title("neighbouring layers")
        rows += [{"panel": "euler", "curve": "error", "x": L, "y": v} for L, v in zip(x, error, strict=True)]
        checks = _checks(records[0])
        rows += [{"panel": "checks", "curve": name, "x": c["expected"], "y": c["value"]} for name, c in checks.items()]
        remarks = (
            f"seed {runs.records[0].seed}; {sum(c['passed'] for c in checks.values()):.0f} of {len(checks)} checks pass"
        )
        return Drawing(fig, pd.DataFrame(rows), remarks)

    def claims(self, runs: Runs) -> list[Claim]:
        found = []
        for name, pair in zip(VARIANTS, runs.of("resnet_lipschitz"), strict=True):
            config, records = pair
            mean, bounds, words = _over_seeds([np.array(r.array("slope_paper"))[-1] for r in records])
            wanted, tolerance = (0.0, 0.1) if config.init == "iid" else (-1.0, 0.03)
            found.append(
                _claim(
                    Runs([pair], runs.scale), abs(mean - wanted) <= tolerance,
                    f"resnet_theory/slope_{config.scaling}_{config.init}", f"exponent of L of the increments: {name}",
                    "section 4", f"{wanted:.0f}", words, value=mean, bounds=bounds,
                )
            )  # fmt: skip
        for pair in runs.of("resnet_theory"):
            for record in pair[1]:
                for name, check in _checks(record).items():
                    what = record.tags.get(f"reprod.check.{name}", name)
                    found.append(
                        _claim(
                            Runs([(pair[0], [record])], "paper"), bool(check["passed"]), f"resnet_theory/{name}", what,
                            "theory", f"{check['expected']:.6g}", f"{check['value']:.6g}", value=check["value"],
                        )
                    )  # fmt: skip
        return found


def _checks(record: Record) -> dict[str, dict[str, float]]:
    metrics = record.metrics
    names = [name.removeprefix("check/") for name in metrics if name.startswith("check/")]
    kinds = {"value": "check", "expected": "expected", "passed": "passed"}
    return {n: {kind: metrics[f"{prefix}/{n}"] for kind, prefix in kinds.items()} for n in names}
