"""Table 1: grid search against step adaptation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from reprod.analysis.neural_ode.accuracy import WITH_MEDIUM
from reprod.analysis.neural_ode.common import (
    PAPER,
    SEEN,
    accuracy,
    percent,
    scoring,
    seed_of,
    spread,
    successes,
    successful,
)
from reprod.analysis.neural_ode.grids import cifar_adapted, cifar_euler, sphere_adapted, sphere_euler
from reprod.analysis.neural_ode.validity import between, critical_bracket, critical_claim
from reprod.config import Config
from reprod.figures.alter import Case, altered
from reprod.figures.claims import PRINTED, AtLeast, AtMost, Claim, Equals
from reprod.figures.figure import Drawing, Runs, figure
from reprod.store import Record

OTHER_SETTINGS = "fewer channels, fewer iterations or a larger learning rate than the paper's"


@dataclass(frozen=True)
class Published:
    """One half of Table 1. Accuracies are means and standard deviations over five seeds; evaluations an interval for
    the grid search, and one number for the adaptation."""

    bracket: tuple[int, int]
    grid: tuple[float, float]
    adapted: tuple[float, float]
    nfe: float

    def words(self, which: str) -> str:
        mean, sd = getattr(self, which)
        return f"{100 * mean:.1f} +- {100 * sd:.1f} %"


def evaluations(record: Record) -> float:
    """Mean number of evaluations per training iteration, those of the solver checks counted."""
    return float(np.asarray(record.array("nfe/with_checks"), dtype=float).mean())


class Table:
    title = ""
    published: Published

    def grid(self, scale: str) -> list[Any]:
        raise NotImplementedError

    def adaptation(self, scale: str) -> list[Config]:
        raise NotImplementedError

    def runs(self, scale: str) -> list[Config]:
        return [*self.grid(scale), *self.adaptation(scale)]

    def parts(self, runs: Runs) -> tuple[Runs, Runs, Runs, tuple[int | None, int | None]]:
        """The grid, the runs of its coarsest valid step, the adapted runs, and the grid's critical bracket."""
        grid, adapted = runs.where(adaptation="none"), runs.where(adaptation="step")
        bracket = critical_bracket(grid)
        chosen = grid.where(step_size=1 / bracket[1]) if bracket[1] else Runs([], runs.scale)
        return grid, chosen, adapted, bracket

    def draw(self, runs: Runs) -> Drawing:
        _, chosen, adapted, bracket = self.parts(runs)
        best, own = (successful(runs, part.records) or part.records for part in (chosen, adapted))
        low, high = self.published.bracket
        table = pd.DataFrame([
            {"method": "grid search", "published NFE": f"{low + 1}-{high + 1}", "NFE": between(*bracket),
             "published accuracy": self.published.words("grid"), "accuracy": percent([accuracy(r) for r in best]),
             "seeds": len(best)},
            {"method": "step adaptation", "published NFE": f"{self.published.nfe:g}",
             "NFE": spread([evaluations(r) for r in own], "{:.1f}"),
             "published accuracy": self.published.words("adapted"), "accuracy": percent([accuracy(r) for r in own]),
             "seeds": len(own)},
        ])  # fmt: skip
        fig, ax = plt.subplots(figsize=(7.2, 1.3))
        ax.axis("off")
        cells = table.astype(str).to_numpy().tolist()
        drawn = ax.table(cellText=cells, colLabels=list(table.columns), loc="center", cellLoc="center")
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
        drawn.auto_set_column_width(list(range(len(table.columns))))
        drawn.scale(1, 1.6)
        for (row, _), cell in drawn.get_celld().items():
            cell.set_linewidth(0.4)
            if row == 0:
                cell.set_text_props(weight="bold")
                cell.set_facecolor("#eef2f6")
        ax.set_title(f"{self.title} (scale {runs.scale})")
        return Drawing(fig, table)

    def claims(self, runs: Runs) -> Iterator[Claim]:
        grid, chosen, adapted, _ = self.parts(runs)
        where, said = f"{PAPER}, table 1", self.published
        steps = tuple(round(1 / config.step_size) for config in self.grid("paper"))
        yield critical_claim(grid, "bracket", self.title, where, *said.bracket, steps)
        why = "two published standard deviations: where a seed of the paper may lie"
        for name, words, part, which in (
            ("grid-accuracy", "the coarsest valid step of the grid", chosen, "grid"),
            ("adapted-accuracy", "step adaptation", adapted, "adapted"),
        ):
            mean, sd = getattr(said, which)
            yield Equals(
                name=name, statement=f"{self.title}: accuracy of {words}", source=where, published=said.words(which),
                basis=PRINTED, target=mean, tolerance=2 * sd, why=why, factor=100, unit=" %", scales=("paper",),
                elsewhere=OTHER_SETTINGS, **successes(part, accuracy),
                refuted_by=partial(self.scored, best=mean - 8 * sd, adapted=mean - 8 * sd),
                confirmed_by=partial(self.scored, best=mean, adapted=mean),
            )  # fmt: skip
        yield Equals(
            name="adapted-nfe", statement=f"{self.title}: evaluations per iteration of step adaptation, checks counted",
            source=where, published=f"{said.nfe:g}", basis=PRINTED, target=said.nfe, tolerance=0.1 * said.nfe,
            why="a tenth, by which the step grows between two checks", spread=False, scales=("paper",),
            elsewhere=OTHER_SETTINGS, **successes(adapted, evaluations),
            refuted_by=lambda runs: self.counting(runs, 0.5), confirmed_by=lambda runs: self.counting(runs, 1.0),
        )  # fmt: skip
        most = said.bracket[1] + 1
        yield AtMost(
            name="adapted-is-cheap",
            statement=f"{self.title}: step adaptation takes no more evaluations than the finer neighbour in the grid",
            source=where, published=f"{said.nfe:g} against {said.bracket[0] + 1}-{most}", basis=PRINTED, bound=most,
            scales=("paper",), elsewhere=OTHER_SETTINGS, **successes(adapted, evaluations),
            refuted_by=lambda runs: self.counting(runs, 2.0), confirmed_by=lambda runs: self.counting(runs, 0.5),
        )  # fmt: skip
        sd = said.grid[1]
        yield AtLeast(
            name="as-good",
            statement=f"{self.title}: step adaptation is as accurate as the coarsest valid step of the grid, but for "
            f"{100 * sd:g} % (difference, seed by seed)", source=where,
            published=f"{said.words('adapted')} against {said.words('grid')}", bound=-sd,
            basis="printed: one standard deviation of the grid's accuracy", factor=100, unit=" %", run_ids=runs.ids,
            **self.difference(chosen, adapted),
            refuted_by=lambda runs: self.scored(runs, said.grid[0], said.grid[0] - 6 * sd),
            confirmed_by=lambda runs: self.scored(runs, said.grid[0], said.grid[0] + sd),
        )  # fmt: skip

    def difference(self, chosen: Runs, adapted: Runs) -> dict:
        """Accuracy of the adaptation minus that of the grid, of each seed that both have and that succeeded in both."""
        if not chosen.records:  # no step of the grid is valid: there is nothing to compare with
            return {"samples": []}
        best, own = ({seed_of(r): accuracy(r) for r in successful(p, p.records)} for p in (chosen, adapted))
        seeds = {seed_of(r) for part in (chosen, adapted) for r in part.records}
        samples = [own[seed] - best[seed] for seed in sorted(set(own) & set(best))]
        return {
            "samples": samples, "unsuccessful": len(seeds) - len(samples), "allowed": len(seeds) // 5,
            "criterion": "success in both",
        }  # fmt: skip

    def scored(self, runs: Runs, best: float, adapted: float) -> Runs:
        """As if all finer solvers agreed, and the grid's networks and the adapted ones had these accuracies."""
        return scoring(runs, best, lambda case: adapted if case.config.adaptation == "step" else best, adapted)

    def counting(self, runs: Runs, factor: float) -> Runs:
        """As if the adaptation had taken `factor` times the published evaluations, and all had learnt."""
        high = self.published.grid[0]

        def nfe(values: np.ndarray, case: Case) -> np.ndarray:
            return np.full(len(values), factor * self.published.nfe + 0.1 * case.index)

        tests = {"tests": lambda table, case: table.assign(accuracy=high)}
        return altered(runs, seeds=SEEN, arrays={"nfe/with_checks": nfe}, tables=tests)


@figure("table1_sphere", source=f"{PAPER}, table 1", experiments=("sphere_ode",))
class SphereTable(Table):
    """Table 1, Sphere2: number of evaluations and test accuracy (mean and standard deviation over seeds) of the
    coarsest valid run of the grid search, and of training with step-size adaptation."""

    title = "Sphere2"
    published = Published(bracket=(64, 128), grid=(0.987, 0.010), adapted=(0.989, 0.006), nfe=100.5)

    def grid(self, scale: str) -> list[Config]:
        return sphere_euler(scale)

    def adaptation(self, scale: str) -> list[Config]:
        return sphere_adapted(scale)


@figure("table1_cifar", source=f"{PAPER}, table 1", experiments=("cifar_ode",))
class CifarTable(Table):
    """Table 1, CIFAR-10: number of evaluations and test accuracy (mean and standard deviation over seeds) of the
    coarsest valid run of the grid search, and of training with step-size adaptation."""

    title = "CIFAR-10"
    published = Published(bracket=(16, 32), grid=(0.547, 0.003), adapted=(0.550, 0.008), nfe=21.9)
    scales = WITH_MEDIUM

    def grid(self, scale: str) -> list[Config]:
        return cifar_euler(scale)

    def adaptation(self, scale: str) -> list[Config]:
        return cifar_adapted(scale)
