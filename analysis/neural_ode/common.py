"""What the figures share: reading a run, which seeds succeeded, runs altered so that the paper is wrong or right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from reprod.figures.alter import Case, altered
from reprod.figures.claims import our_limit
from reprod.figures.figure import Runs
from reprod.neural_ode.config import ADAPTIVE
from reprod.store import Record

PAPER = "Ott et al. 2021"
RECONSTRUCTED = f"{PAPER}, supplement (reconstructed)"
NAMES = {
    "euler": "Euler",
    "midpoint": "midpoint",
    "rk4": "Runge-Kutta 4",
    "fehlberg2": "Fehlberg 2(1)",
    "dopri5": "Dormand-Prince 5(4)",
}

# The paper's means are over successful runs; it does not say which those are. Ours: the accuracy with the solver of
# training is at least this, some four fifths of what the scale reaches.
CRITERION = {
    "sphere_ode": {"paper": 0.9, "small": 0.9},
    "cifar_ode": {"paper": 0.45, "medium": 0.4, "small": 0.34},
    "mnist_ode": {"paper": 0.9, "medium": 0.9, "small": 0.8},
}
THRESHOLD = 0.1  # of the paper's rule (section 5): solvers whose accuracies differ by more solve different problems
BY_THE_RULE = our_limit("0.1, at which the paper's own rule calls the solver too coarse")


def tests(record: Record) -> pd.DataFrame:
    """The trained network under all solvers: kind, solver, factor, value (step or tolerance), accuracy, nfe."""
    return record.table("tests")


def accuracy(record: Record) -> float:
    """With the solver of training."""
    return float(tests(record).accuracy.iloc[0])


def finest_accuracy(record: Record) -> float:
    """Under the most accurate of the test solvers."""
    return float(record.metrics["test/accuracy_finest"])


def seed_of(record: Record) -> int:
    assert record.seed is not None, "records of a figure have one seed each"
    return record.seed


def x_of(config: Any, value: float) -> float:
    """Tolerance, or number of steps (a step longer than the interval is one step)."""
    return value if config.solver in ADAPTIVE else max(1, 1 / value)


# -- which seeds count ----------------------------------------------------------------------------------------------


def criterion(runs: Runs, experiment: str) -> float:
    """Least accuracy of a successful seed at this scale; at smoke every seed is one."""
    return CRITERION[experiment].get(runs.scale, 0.0)


def successful(runs: Runs, records: Sequence[Record]) -> list[Record]:
    return [r for r in records if accuracy(r) >= criterion(runs, r.experiment)]


def lost(runs: Runs) -> int:
    """Seeds that ended without a result."""
    return sum(max(0, len(config.seeds) - len(records)) for config, records in runs)


def successes(runs: Runs, sample: Callable[[Record], float]) -> dict[str, Any]:
    """Keywords of a claim about the successful seeds of `runs` (one configuration): one sample each. One seed in five
    may miss the criterion or diverge, more of them and the claim fails."""
    records = runs.records
    good = successful(runs, records)
    total = len(records) + lost(runs)
    least = criterion(runs, records[0].experiment) if records else 0.0
    return {
        "samples": [sample(r) for r in good],
        "unsuccessful": total - len(good),
        "allowed": total // 5,
        "criterion": f"an accuracy of {least:g} with the solver of training",
        "run_ids": runs.ids,
    }


# -- altered runs ---------------------------------------------------------------------------------------------------

SEEN = 5  # seeds of the paper


def scoring(
    runs: Runs, own: float, other: float | Callable[[Case], float], adapted: float | None = None, **also: Any
) -> Runs:
    """Five seeds whose networks score `own` with the solver of training (`adapted`, where that was adapted) and `other`
    with every other one."""

    def of(case: Case) -> float:
        return other(case) if callable(other) else other

    def change(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        mine = own if adapted is None or case.config.adaptation == "none" else adapted
        # a little apart, as seeds are
        table["accuracy"] = np.where(table.kind == "as trained", mine, of(case)) + 1e-4 * case.index
        return table

    finest = {"test/accuracy_finest": lambda value, case: of(case) + 1e-4 * case.index}
    return altered(runs, seeds=SEEN, tables={"tests": change}, metrics=finest, **also)


def on_grid(runs: Runs, steps: Sequence[int]) -> Runs:
    """The grid's runs as if they were of these numbers of steps; those of an adaptation as they are."""
    grid = next((config, records) for config, records in runs if config.adaptation == "none")
    found = [(replace(grid[0], step_size=1 / n), grid[1]) for n in steps]
    return Runs([*found, *((c, r) for c, r in runs if c.adaptation != "none")], runs.scale, runs.failed)


# -- words ----------------------------------------------------------------------------------------------------------


def percent(values: Sequence[float]) -> str:
    return spread([100 * v for v in values], "{:.1f}") + (" %" if values else "")


def spread(values: Sequence[float], form: str) -> str:
    """Mean and standard deviation."""
    if not values:
        return "none"
    mean = form.format(float(np.mean(values)))
    return f"{mean} +- {form.format(float(np.std(values, ddof=1)))}" if len(values) > 1 else mean
