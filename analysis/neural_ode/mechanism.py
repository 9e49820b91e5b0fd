"""Figures 1 to 3: trajectories that cross, outputs that one solver separates, and the fan of the solver's error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from reprod.analysis.neural_ode.common import BY_THE_RULE, PAPER, SEEN, successes
from reprod.analysis.neural_ode.grids import two_steps
from reprod.config import Config, at_scale
from reprod.figures import style
from reprod.figures.alter import Case, altered
from reprod.figures.claims import All, AtLeast, AtMost, Claim, Exact, our_limit, read_off
from reprod.figures.figure import Drawing, Runs, figure
from reprod.neural_ode.config import XorFan
from reprod.store import Record

HALF_WAY = our_limit("0.25, half of the way from certainty to chance")


def euler_curve(record: Record) -> pd.Series:
    """Test accuracy by number of Euler steps."""
    return record.table("euler_curve").set_index("steps").accuracy


def most_typical(records: Sequence[Record]) -> Record:
    """The seed whose fine-solver accuracy is the median: a single run stands for all, and is not picked by hand."""
    ordered = sorted(records, key=lambda r: (float(euler_curve(r).iloc[-1]), r.seed))
    return ordered[(len(ordered) - 1) // 2]


@figure("fig1", source=f"{PAPER}, figure 1", experiments=("sphere_ode",))
class Trajectories:
    """Neural ODEs on Sphere2, trained by Euler's method with many steps (left) and with two (right). Top: trajectories
    of test points, which an autonomous ODE cannot cross. Bottom: test accuracy of the trained network by number of
    Euler steps; the dark dot is the training's number, light lines are the other seeds."""

    def runs(self, scale: str) -> list[Config]:
        return two_steps(scale)

    def draw(self, runs: Runs) -> Drawing:
        fig, axes = plt.subplots(2, 2, figsize=(6.6, 5.6), height_ratios=[1.35, 1])
        tables = []
        for (config, records), column in zip(runs, axes.T, strict=True):
            steps = round(1 / config.step_size)
            shown = most_typical(records)
            draw_trajectories(column[0], shown)
            column[0].set_title(f"trained with {steps} Euler steps (seed {shown.seed})")
            for record in records:
                curve = euler_curve(record)
                main = record is shown
                column[1].plot(
                    curve.index, curve, "o-", ms=3.5 if main else 0, color=style.SKY, alpha=1 if main else 0.35
                )
                if main and steps in curve:
                    column[1].plot(steps, curve[steps], "o", ms=8, color=style.BLUE, zorder=3)
                tables.append(curve.reset_index().assign(trained_steps=steps, seed=record.seed))
            column[1].set(xscale="log", ylim=(0, 1.1), xlabel="number of Euler steps of the test")
            column[1].set_xscale("log", base=2)
        axes[1, 0].set_ylabel("test accuracy")
        legend = [Line2D([], [], color=c, label=f"class {k}") for k, c in enumerate((style.BLUE, style.ORANGE))]
        axes[0, 0].legend(handles=legend, loc="upper right")
        return Drawing(fig, pd.concat(tables)[["trained_steps", "seed", "steps", "accuracy"]])

    def claims(self, runs: Runs) -> Iterator[Claim]:
        (fine_config, _), _ = runs
        fine, coarse = (runs.where(step_size=config.step_size) for config, _ in runs)
        n = round(1 / fine_config.step_size)
        most = max((euler_curve(r).index.max() for r in fine.records), default=0)
        where = f"{PAPER}, figure 1"

        def change(record: Record) -> float:
            """Largest change of the accuracy with more steps than those of training."""
            curve = euler_curve(record)
            return float((curve[curve.index >= n] - curve[n]).abs().max())

        def drop(record: Record) -> float:
            """From two steps to the best of 16 and more."""
            curve = euler_curve(record)
            return float(curve[2] - curve[curve.index >= 16].max())

        yield AtMost(
            name="fine-is-ode",
            statement=f"trained with {n} steps, accuracy is that of training up to {most} steps (largest change)",
            source=where, published="the same", basis=BY_THE_RULE, bound=0.1, paper_n=1, **successes(fine, change),
            refuted_by=lambda runs: curves(runs, fine=lambda steps: np.where(steps <= 256, 0.99, 0.7)),
            confirmed_by=lambda runs: curves(runs, fine=lambda steps: np.where(steps < 8, 0.5, 0.98)),
        )  # fmt: skip
        yield AtLeast(
            name="coarse-is-resnet",
            statement="trained with 2 steps, accuracy falls by more than 0.25 with 16 steps and more",
            source=where, published=f"from 0.97 to 0.49 ({read_off('0.02')})", basis=HALF_WAY, bound=0.25, paper_n=1,
            **successes(coarse, drop),
            refuted_by=lambda runs: curves(runs, coarse=lambda steps: np.where(steps == 2, 0.99, 0.9)),
            confirmed_by=lambda runs: curves(runs, coarse=lambda steps: np.where(steps == 2, 0.99, 0.5)),
        )  # fmt: skip
        yield All(
            name="crossings", statement=f"trajectories of the two classes cross with 2 steps, and not with {n}",
            source=where, published="many, none", basis=our_limit("more than 5 % of the pairs, less than 1 %"),
            parts=[
                AtLeast(
                    name="with 2 steps", statement="share of crossing pairs", source=where, published="many",
                    basis=our_limit("5 % of the pairs"), bound=0.05, paper_n=1, fmt=".2g",
                    **successes(coarse, lambda r: r.metrics["crossing_pairs"]),
                ),
                AtMost(
                    name=f"with {n}", statement="share of crossing pairs", source=where, published="none",
                    basis=our_limit("1 % of the pairs: polylines of finitely many steps may touch"), bound=0.01,
                    paper_n=1, fmt=".2g", **successes(fine, lambda r: r.metrics["crossing_pairs"]),
                ),
            ],
            run_ids=runs.ids,
            refuted_by=lambda runs: crossing(runs, fine=0.2, coarse=0.2),
            confirmed_by=lambda runs: crossing(runs, fine=0.0, coarse=0.4),
        )  # fmt: skip


def curves(runs: Runs, fine=lambda steps: np.full(len(steps), 0.99), coarse=lambda steps: np.full(len(steps), 0.99)):
    """Runs whose accuracies by number of steps are these; those of training are high."""
    steps = 2 ** np.arange(13)

    def change(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        shape = coarse if case.config.step_size == 0.5 else fine
        return pd.DataFrame({"steps": steps, "accuracy": shape(steps) + 1e-4 * case.index})

    def tests(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        return table.assign(accuracy=0.99)

    return altered(runs, seeds=SEEN, tables={"euler_curve": change, "tests": tests})


def crossing(runs: Runs, fine: float, coarse: float) -> Runs:
    def share(value: float, case: Case) -> float:
        return (coarse if case.config.step_size == 0.5 else fine) + 1e-4 * case.index

    tests = {"tests": lambda table, case: table.assign(accuracy=0.99)}
    return altered(runs, seeds=SEEN, metrics={"crossing_pairs": share}, tables=tests)


def draw_trajectories(ax: Axes, record: Record) -> None:
    path, labels = np.asarray(record.array("trajectories")), np.asarray(record.array("trajectory_labels"))
    # about one point in two hides less; the crop is around the data, as in the paper: trajectories may leave it
    for label, color in enumerate((style.BLUE, style.ORANGE)):
        mine = path[:, labels == label]
        ax.plot(mine[..., 0], mine[..., 1], color=color, lw=0.6, alpha=0.5)
        ax.plot(*mine[0].T, ".", ms=2.5, color=color)
    span = 1.6 * np.abs(path[0]).max()
    ax.set(xlim=(-span, span), ylim=(-span, span), xticks=[], yticks=[], xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


@figure("fig2", source=f"{PAPER}, figure 2", experiments=("sphere_ode",))
class DecisionPlane:
    """Final states of test points for the network of figure 1 (right), trained with two Euler steps: (a) solved with
    the step of training they are separated by the classifier's line (background), (b) with half that step they are
    not."""

    def runs(self, scale: str) -> list[Config]:
        return two_steps(scale)[1:]

    def draw(self, runs: Runs) -> Drawing:
        ((config, records),) = runs
        shown = most_typical(records)
        states, labels = np.asarray(shown.array("final_states")), np.asarray(shown.array("test_labels"))
        weights = np.asarray(shown.array("classifier"))
        fig, axes = plt.subplots(1, 2, figsize=(6.6, 3.2))
        rows = []
        steps = round(1 / config.step_size)
        for ax, end, n, name in zip(axes, states, (steps, 2 * steps), "ab", strict=True):
            low, high = np.percentile(end, 1, axis=0), np.percentile(end, 99, axis=0)
            low, high = low - 0.12 * (high - low), high + 0.12 * (high - low)
            x, y = np.meshgrid(np.linspace(low[0], high[0], 300), np.linspace(low[1], high[1], 300))
            region = classified(np.stack([x, y], -1), weights)
            ax.contourf(x, y, region, levels=[-0.5, 0.5, 1.5], colors=["#dbe9f6", "#fdebd0"])
            for label, color in enumerate((style.BLUE, style.ORANGE)):
                ax.plot(*end[labels == label].T, ".", ms=3, color=color, label=f"class {label}")
            ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="$z_1(1)$")
            ax.set_title(f"({name}) h = 1/{n}: accuracy {(classified(end, weights) == labels).mean():.2f}")
            ax.grid(False)
            rows += [{"steps": n, "z1": p[0], "z2": p[1], "label": c} for p, c in zip(end, labels, strict=True)]
        axes[0].set_ylabel("$z_2(1)$")
        axes[0].legend(loc="best", markerscale=3, frameon=True)
        return Drawing(fig, pd.DataFrame(rows), f"seed {shown.seed}; 1 % of the points lie outside on each side")

    def claims(self, runs: Runs) -> Iterator[Claim]:
        def drop(record: Record) -> float:
            own, halved = separated(record)
            return own - halved

        yield AtLeast(
            name="half-step", statement="with half of the step of training, the line no longer separates the classes: "
            "accuracy falls by more than 0.25", source=f"{PAPER}, figure 2", published="to about 0.5", basis=HALF_WAY,
            bound=0.25, paper_n=1, **successes(runs, drop),
            refuted_by=lambda runs: outputs(runs, halved_too=True),
            confirmed_by=lambda runs: outputs(runs, halved_too=False),
        )  # fmt: skip


def classified(states: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Classes of final states (..., 2) by the affine map `weights` (classes, w1 w2 b)."""
    return (states @ weights[:, :-1].T + weights[:, -1]).argmax(-1)


def separated(record: Record) -> list[float]:
    """Share of test points on the right side of the line: with the step of training, and with half of it."""
    states, labels = np.asarray(record.array("final_states")), np.asarray(record.array("test_labels"))
    weights = np.asarray(record.array("classifier"))
    return [float((classified(end, weights) == labels).mean()) for end in states]


def outputs(runs: Runs, halved_too: bool) -> Runs:
    """Final states that the line z1 = 0 separates with the step of training, and with half of it or not."""

    def states(values: np.ndarray, case: Case) -> np.ndarray:
        apart = np.stack([2.0 * np.asarray(case.record.array("test_labels")) - 1, np.zeros(values.shape[1])], 1)
        return np.stack([apart, apart if halved_too else np.zeros_like(apart)])

    line = np.array([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    tests = {"tests": lambda table, case: table.assign(accuracy=0.99)}
    arrays = {"final_states": states, "classifier": lambda values, case: line}
    return altered(runs, seeds=SEEN, arrays=arrays, tables=tests)


@figure("fig3", source=f"{PAPER}, figure 3", experiments=("xor_fan", "sphere_ode"))
class Fan:
    """Lady Windermere's fan. (a), (b): the four XOR points under one rotating field by Euler's method (grey) and their
    end points, joined within each class. The bias of the coarse step (a) makes the classes linearly separable; with a
    finer step (b) the segments cross. The field's parameters are ours: the paper does not print them. (c): the data
    set Sphere2."""

    def runs(self, scale: str) -> list[Config]:
        return [at_scale(XorFan, scale), two_steps(scale)[1]]

    def draw(self, runs: Runs) -> Drawing:
        ((_, (record, *_)),) = runs.of("xor_fan")
        ((_, (sphere, *_)),) = runs.of("sphere_ode")
        fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.7))
        margins = record.table("margins")
        by_step = margins[margins.solver == "euler"].set_index("log10_step_size").margin
        rows = []
        for ax, exponent, name in zip(axes, (-2.5, -3.5), "ab", strict=False):
            states = np.asarray(record.array(f"fan{f'{exponent:g}'.replace('-', '_')}/states"))
            for point in range(4):
                ax.plot(*states[:, point].T, color="#c4c4c4", lw=0.5, zorder=1)
            for pair, color in (((0, 1), style.BLUE), ((2, 3), style.ORANGE)):
                ends = states[-1, list(pair)]
                ax.plot(*ends.T, "o-", color=color, ms=6, lw=1.6, zorder=3)
                rows += [{"log10_h": exponent, "class": int(pair[0] > 0), "z1": e[0], "z2": e[1]} for e in ends]
            kind = "separable" if by_step[exponent] > 0 else "not separable"
            ax.set_title(f"({name}) $h=10^{{{exponent:g}}}$: {kind}")
            ax.set(xlabel="$z_1$", ylabel="$z_2$")
        points, labels = np.asarray(sphere.array("trajectories"))[0], np.asarray(sphere.array("trajectory_labels"))
        for label, color in enumerate((style.BLUE, style.ORANGE)):
            axes[2].plot(*points[labels == label].T, ".", ms=4, color=color, label=f"class {label}")
        axes[2].set(title="(c) Sphere2", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        axes[2].legend(loc="upper right", markerscale=2, frameon=True)
        rows += [
            {"log10_h": m.log10_step_size if m.solver == "euler" else "limit", "class": "margin", "z1": m.margin,
             "z2": ""} for m in margins.itertuples()
        ]  # fmt: skip
        return Drawing(fig, pd.DataFrame(rows))

    def claims(self, runs: Runs) -> Iterator[Claim]:
        ((_, records),) = runs.of("xor_fan")
        margins = records[0].table("margins").sort_values(["solver", "log10_step_size"], ascending=[True, False])
        coarse, *finer = margins.margin

        def margins_of(coarse: float, finer: float):
            def change(table: pd.DataFrame, case: Case) -> pd.DataFrame:
                step = table.log10_step_size == table.log10_step_size.max()
                return table.assign(margin=np.where(step, coarse, finer))

            return lambda runs: altered(runs, tables={"margins": change})

        yield Exact(
            name="fan",
            statement="XOR is linearly separable (1) at h = 10^-2.5, and not (0) at finer steps nor in the limit",
            source=f"{PAPER}, figure 3", published="separable, not separable",
            basis="printed; the parameters of the field, which the paper does not give, are ours",
            value=[float(m > 0) for m in (coarse, *finer)], target=[1.0] + [0.0] * len(finer), fmt=".0f",
            remark=f"margin {coarse:.3f} at the coarse step, {max(finer):.3f} at most at the others",
            run_ids=(records[0].id,),
            refuted_by=margins_of(0.1, 0.1), confirmed_by=margins_of(3.0, -0.5),
        )  # fmt: skip
