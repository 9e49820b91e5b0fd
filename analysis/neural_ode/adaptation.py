"""Figure 5 and its analogues: solvers that are adapted while the network trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reprod.analysis.neural_ode.accuracy import WITH_MEDIUM
from reprod.analysis.neural_ode.common import (
    NAMES,
    PAPER,
    RECONSTRUCTED,
    SEEN,
    THRESHOLD,
    accuracy,
    finest_accuracy,
    lost,
    scoring,
    successes,
)
from reprod.analysis.neural_ode.grids import Configs, cifar_adapted, sphere_adapted, sphere_tolerance_adapted
from reprod.config import Config
from reprod.figures import style
from reprod.figures.alter import Case, altered
from reprod.figures.claims import AtLeast, AtMost, Claim, our_limit
from reprod.figures.figure import Drawing, Runs, figure
from reprod.store import Record


class AdaptationFigure:
    """Test accuracy and number of steps over the training of every seed, and a close look at one seed."""

    configs: Configs

    def runs(self, scale: str) -> list[Config]:
        return type(self).configs(scale)

    def draw(self, runs: Runs) -> Drawing:
        ((config, records), *_) = runs
        fig, axes = plt.subplots(2, 2, figsize=(7.2, 4.6))
        (ax_a, ax_c), (ax_b, ax_d) = axes
        rows = []
        for record, color in zip(records, style.shades(len(records)), strict=True):
            accuracies = np.asarray(record.array("test_accuracy"))
            iterations = config.eval_every * np.arange(1, len(accuracies) + 1)
            steps = 1 / np.asarray(record.array("step_size"))
            ax_a.plot(iterations, accuracies, color=color, label=f"seed {record.seed}")
            ax_b.plot(np.arange(1, len(steps) + 1), steps, color=color, lw=0.9)
            rows += [
                {"panel": "a", "seed": record.seed, "iteration": i, "accuracy": a}
                for i, a in zip(iterations, accuracies, strict=True)
            ]
            changed = np.flatnonzero(np.diff(steps, prepend=0))
            rows += [{"panel": "b", "seed": record.seed, "iteration": i + 1, "steps": steps[i]} for i in changed]
        rows += close_look(config, records, ax_c, ax_d)
        ax_a.set(title="(a) test accuracy, all seeds", ylabel="test accuracy")
        ax_b.set(title="(b) number of steps, all seeds", ylabel="steps 1/h", xlabel="iteration", yscale="log")
        ax_c.set(title="(c) around a refinement, one seed", ylabel="test accuracy")
        ax_d.set(title="(d) its number of steps", xlabel="iteration")
        ax_a.legend(ncol=2)
        return Drawing(fig, pd.DataFrame(rows))


def refines(record: Record) -> np.ndarray:
    """Whether a check finds the solvers too far apart on its batch, (checks,)."""
    checks = record.table("checks")
    return (np.abs(checks.test_accuracy - checks.accuracy) > record.config.threshold).to_numpy()


def gap(record: Record, solver: str = "midpoint") -> np.ndarray:
    """How far a finer solver is from that of training on test examples, just before each check, (checks,)."""
    probes = record.table("probes")
    return np.abs(np.asarray(probes[solver]) - np.asarray(probes["as trained"]))


def close_look(config: Any, records: Sequence[Record], ax_c: Axes, ax_d: Axes) -> list[dict]:
    """The refinement before which the solvers drawn here disagree most, and its neighbours, in the second half of
    training if one lies there: test examples, the solver of training and finer ones at the same step."""
    best: tuple[tuple[bool, float], Record, int] | None = None
    for record in records:
        late = 2 * np.asarray(record.table("probes").iteration) > config.iterations
        largest = np.maximum(gap(record, "midpoint"), gap(record, "rk4"))
        for index in np.flatnonzero(refines(record)).tolist():
            score = bool(late[index]), float(largest[index])
            if best is None or score > best[0]:
                best = score, record, index
    if best is None:
        for ax in (ax_c, ax_d):
            ax.text(0.5, 0.5, "no refinement in these runs", ha="center", va="center", transform=ax.transAxes)
        return []
    _, record, index = best
    probes, steps = record.table("probes"), 1 / np.asarray(record.array("step_size"))
    near = probes[max(0, index - 2) : index + 4]
    rows = []
    markers = {"as trained": "o-", "midpoint": "x", "rk4": "^"}
    for (name, marker), color in zip(markers.items(), style.CYCLE, strict=False):
        ax_c.plot(near.iteration, near[name], marker, ms=6, color=color, label=name)
        rows += [
            {"panel": "c", "seed": record.seed, "iteration": i, "solver": name, "accuracy": a}
            for i, a in zip(near.iteration, near[name], strict=True)
        ]
    first, last = near.iteration.min(), near.iteration.max()
    ax_d.plot(np.arange(first, last + 1), steps[first - 1 : last], color=style.BLUE)
    ax_d.plot(near.iteration, steps[near.iteration - 1], "o", ms=5, color=style.BLUE)
    for ax in (ax_c, ax_d):
        ax.axvline(probes.iteration[index], color=style.RED, lw=0.9, ls="--")
    ax_c.legend(frameon=True, framealpha=0.85)
    return rows


# -- claims ---------------------------------------------------------------------------------------------------------


def adaptation_claims(runs: Runs, where: str, high: float) -> Iterator[Claim]:
    """`high`: an accuracy that counter-examples start from."""
    by_seed = [(refines(record), record) for record in runs.records]
    gaps = {name: [float(gap(r, name)[bad].mean()) for bad, r in by_seed if bad.any()] for name in ("midpoint", "rk4")}
    refined = sum(int(bad.sum()) for bad, _ in by_seed)
    rk4 = f"; with rk4 {np.mean(gaps['rk4']):.3g}" if gaps["rk4"] else ""
    yield AtLeast(
        name="gap-at-refinement",
        statement="just before a refinement the midpoint rule is more than 10 % away on test examples (mean of a seed)",
        source=where, published="more than 10 %", bound=THRESHOLD, samples=gaps["midpoint"], run_ids=runs.ids,
        basis=our_limit("0.1, the threshold that the rule applies to a batch; the paper marks some of one run"),
        unsuccessful=len(by_seed) - len(gaps["midpoint"]) + lost(runs), criterion="a refinement",
        remark=f"{refined} refinements{rk4}; the rule acts on a batch that shows more, test examples are free of that "
        "choice",
        refuted_by=lambda runs: refining(runs, high, 0.02),
        confirmed_by=lambda runs: refining(runs, high, 0.3),
    )  # fmt: skip
    yield AtMost(
        name="adapted-is-ode",
        statement="at the end of an adapted training the most accurate solver agrees within 0.1", source=where,
        published="accuracy no longer depends on the solver", bound=THRESHOLD,
        basis=our_limit("0.1, the threshold of the rule itself"),
        **successes(runs, lambda record: abs(finest_accuracy(record) - accuracy(record))),
        refuted_by=lambda runs: scoring(runs, high, high - 0.3),
        confirmed_by=lambda runs: scoring(runs, high, high - 0.01),
    )  # fmt: skip


def refining(runs: Runs, own: float, gap: float) -> Runs:
    """Runs in which every check refines, because its batch moves by 0.3, and test examples move by `gap`."""

    def checks(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        return table.assign(accuracy=own, test_accuracy=own - 0.3)

    def probes(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        far = own - gap - 1e-4 * case.index
        return table.assign(**{"as trained": own, "midpoint": far, "rk4": far})

    return altered(runs, seeds=SEEN, tables={"checks": checks, "probes": probes})


# -- figures --------------------------------------------------------------------------------------------------------


@figure("fig5", source=f"{PAPER}, figure 5", experiments=("cifar_ode",))
class AdaptationOnCifar(AdaptationFigure):
    """CIFAR-10 with Euler's method and step-size adaptation. (a), (b): test accuracy and number of steps for all seeds.
    (c), (d): one seed around the refinement (dashed) of the second half before which solvers disagree most: accuracy
    with the solver of training and with finer solvers at the same step, just before the step is halved and after."""

    configs = staticmethod(cifar_adapted)
    scales = WITH_MEDIUM

    def claims(self, runs: Runs) -> Iterator[Claim]:
        return adaptation_claims(runs, f"{PAPER}, figure 5", high=0.55)


@figure("figS1", source=RECONSTRUCTED, experiments=("sphere_ode",))
class AdaptationOnSpheres(AdaptationFigure):
    """Sphere2 with Euler's method and step-size adaptation, panels as in figure 5."""

    configs = staticmethod(sphere_adapted)

    def claims(self, runs: Runs) -> Iterator[Claim]:
        return adaptation_claims(runs, RECONSTRUCTED, high=0.99)


@figure("figS1_rk4", source=RECONSTRUCTED, experiments=("sphere_ode",))
class AdaptationCheckedByRungeKutta(AdaptationFigure):
    """As figure S1, the step adaptation checked by the Runge-Kutta method instead of the midpoint rule."""

    configs = staticmethod(partial(sphere_adapted, check_with="rk4"))


@figure("figS2", source=RECONSTRUCTED, experiments=("sphere_ode",))
class ToleranceAdaptation:
    """Tolerance adaptation on Sphere2 with Fehlberg 2(1) and Dormand-Prince 5(4): test accuracy, tolerance, and
    evaluations per iteration of every seed."""

    def runs(self, scale: str) -> list[Config]:
        return sphere_tolerance_adapted(scale)

    def draw(self, runs: Runs) -> Drawing:
        fig, axes = plt.subplots(1, 3, figsize=(8.4, 2.7))
        rows = []
        for (config, records), color in zip(runs, (style.BLUE, style.ORANGE), strict=True):
            for record in records:
                accuracies = np.asarray(record.array("test_accuracy"))
                at = config.eval_every * np.arange(1, len(accuracies) + 1)
                tol, nfe = np.asarray(record.array("tol")), np.asarray(record.array("nfe/forward"))
                label = NAMES[config.solver] if record is records[0] else None
                axes[0].plot(at, accuracies, color=color, label=label)
                axes[1].plot(np.arange(1, len(tol) + 1), tol, color=color)
                axes[2].plot(np.arange(1, len(nfe) + 1), nfe, color=color, lw=0.7)
                for i in range(0, len(tol), config.adapt_every):
                    rows.append(
                        {"solver": config.solver, "seed": record.seed, "iteration": i + 1, "tol": tol[i], "nfe": nfe[i]}
                    )
                rows += [
                    {"solver": config.solver, "seed": record.seed, "iteration": i, "accuracy": a}
                    for i, a in zip(at, accuracies, strict=True)
                ]
        for ax, title in zip(axes, ("test accuracy", "tolerance", "evaluations per iteration"), strict=True):
            ax.set(title=title, xlabel="iteration")
        axes[1].set_yscale("log")
        axes[0].legend()
        return Drawing(fig, pd.DataFrame(rows))
