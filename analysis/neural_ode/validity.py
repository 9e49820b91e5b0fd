"""The valid-ODE rule of the paper's grid search, and the critical number of steps that it gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from reprod.analysis.neural_ode.common import (
    SEEN,
    THRESHOLD,
    accuracy,
    criterion,
    lost,
    on_grid,
    seed_of,
    successful,
    tests,
)
from reprod.figures.alter import Case, altered
from reprod.figures.claims import PRINTED, Claim, Equals
from reprod.figures.figure import Runs
from reprod.store import Record

Rule = Callable[[Record], bool]


def is_valid(record: Record) -> bool:
    """The step adaptation's test solver agrees with that of training, within the threshold of the rule."""
    table = tests(record)
    check = float(table[table.kind == "check"].accuracy.iloc[0])
    return abs(check - accuracy(record)) <= THRESHOLD


def is_strictly_valid(record: Record) -> bool:
    """rk4 at the same step, and Euler with a sixteenth of it, agree, too."""
    table = tests(record)
    at_the_step = (table.kind == "grid") & (table.solver == "rk4") & (table.factor == 1)
    fine = table[(table.kind == "strict") | at_the_step]
    return bool((np.abs(fine.accuracy - accuracy(record)) <= THRESHOLD).all())


def critical_bracket(runs: Runs, rule: Rule = is_valid) -> tuple[int | None, int | None]:
    """(largest invalid, smallest valid number of steps): valid means that most successful seeds are, here and for all
    larger numbers of the grid."""
    valid = {}
    for config, records in runs:
        verdicts = [rule(record) for record in successful(runs, records)]
        valid[round(1 / config.step_size)] = 2 * sum(verdicts) > len(verdicts)
    return bracket(valid)


def bracket(valid: dict[int, bool]) -> tuple[int | None, int | None]:
    largest = max((n for n, good in valid.items() if not good), default=None)
    return largest, min((n for n in valid if largest is None or n > largest), default=None)


def critical_steps(runs: Runs, rule: Rule = is_valid) -> tuple[list[float], int]:
    """log2 of the smallest valid number of steps of every seed, and how many seeds have none: they missed the criterion
    of success, or diverged, at some number of steps. A seed that is valid at no number of the grid counts with twice
    the largest: it lies beyond."""
    by_seed: dict[int, dict[int, bool]] = {}
    left_out: set[int] = set()
    for config, records in runs:
        for record in records:
            valid = by_seed.setdefault(seed_of(record), {})
            valid[round(1 / config.step_size)] = rule(record)
            if accuracy(record) < criterion(runs, record.experiment):
                left_out.add(seed_of(record))
    grid = [round(1 / config.step_size) for config, _ in runs]
    left_out |= {seed for seed, valid in by_seed.items() if len(valid) < len(grid)}
    found = [bracket(valid)[1] or 2 * max(grid) for seed, valid in by_seed.items() if seed not in left_out]
    return [math.log2(n) for n in found], max(len(left_out), lost(runs))


def between(low: int | None, high: int | None) -> str:
    """A bracket in words; None: the grid does not reach so far."""
    if low is None:
        return f"{high} at most" if high else "none"
    return f"{low} - {high}" if high else f"more than {low}"


def critical_claim(runs: Runs, name: str, title: str, where: str, low: int, high: int, steps: tuple[int, ...]) -> Claim:
    """`low` and `high`: the published neighbours; `steps`: the paper's grid."""
    samples, left_out = critical_steps(runs)
    strict, _ = critical_steps(runs, is_strictly_valid)
    words = f"{between(*critical_bracket(runs))} for most seeds"
    if strict:
        words += f"; by the stricter rule 2^{np.mean(strict):.2f} on average"

    def valid_from(first: int) -> Callable[[Runs], Runs]:
        def change(table: pd.DataFrame, case: Case) -> pd.DataFrame:
            agrees = case.config.adaptation == "step" or 1 / case.config.step_size >= first - 0.5
            other = 0.99 if agrees else 0.6
            return table.assign(accuracy=np.where(table.kind == "as trained", 0.99, other))

        return lambda runs: altered(on_grid(runs, steps), seeds=SEEN, tables={"tests": change})

    return Equals(
        name=name, statement=f"{title}: smallest number of Euler steps that is valid, as a power of 2",
        source=where, published=f"{low} - {high}: 2^{math.log2(high):g}", basis=PRINTED, samples=samples,
        target=math.log2(high), tolerance=1.0, why="one step of the grid, in which numbers double", spread=False,
        unsuccessful=left_out, allowed=max(1, (len(samples) + left_out) // 5), fmt=".2f", scales=("paper",),
        criterion="success at every number of steps", elsewhere="fewer iterations at a larger learning rate, and other"
        " networks, have another critical step", remark=words, run_ids=runs.ids,
        refuted_by=valid_from(4 * high), confirmed_by=valid_from(high),
    )  # fmt: skip
