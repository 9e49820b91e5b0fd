"""Change gathered runs, so that a claim's counter-example (or a perfect example) can be built from real ones.

    refuted_by=lambda runs: altered(runs, seeds=5, arrays={"accuracy": lambda values, case: 0 * values + 0.5})

Each function gets the recorded values and a `Case` (the configuration, which of its seeds, the record), and returns
what the run shall hold instead. Nothing is written anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reprod.figures.figure import Runs

Change = Callable[[Any, "Case"], Any]


@dataclass(frozen=True)
class Case:
    """What a change is made to: `index` counts the seeds of a configuration from 0."""

    config: Any
    index: int
    record: Any


class AlteredRecord:
    """A record that holds something else under some names."""

    def __init__(
        self, case: Case, arrays: Mapping[str, Change], tables: Mapping[str, Change], metrics: Mapping[str, Change]
    ):
        self._case, self._arrays, self._tables, self._metrics = case, arrays, tables, metrics

    def __getattr__(self, name: str) -> Any:
        return getattr(self._case.record, name)

    @property
    def config(self) -> Any:
        return self._case.config

    @property
    def seed(self) -> int:
        return self._case.index

    def array(self, name: str) -> np.ndarray:
        values = self._case.record.array(name)
        return np.asarray(self._arrays[name](np.array(values), self._case)) if name in self._arrays else values

    def table(self, name: str) -> pd.DataFrame:
        frame = self._case.record.table(name)
        return self._tables[name](frame.copy(), self._case) if name in self._tables else frame

    @property
    def metrics(self) -> dict[str, float]:
        found = dict(self._case.record.metrics)
        return found | {
            name: float(self._metrics[name](found[name], self._case)) for name in self._metrics if name in found
        }

    def history(self, metric: str) -> pd.Series:
        curve = self._case.record.history(metric)
        return self._metrics[metric](curve.copy(), self._case) if metric in self._metrics else curve


def altered(
    runs: Runs,
    *,
    seeds: int | None = None,
    arrays: Mapping[str, Change] | None = None,
    tables: Mapping[str, Change] | None = None,
    metrics: Mapping[str, Change] | None = None,
    failed: tuple[str, ...] | None = None,
) -> Runs:
    """The same runs, judged as if at the paper's scale, holding something else; `seeds` of each configuration (those
    that are there, again and again), `failed` those that gave no result."""
    found = []
    for config, records in runs:
        count = seeds or len(records)
        cases = [Case(config, i, records[i % len(records)]) for i in range(count)] if records else []
        made: list[Any] = [AlteredRecord(case, arrays or {}, tables or {}, metrics or {}) for case in cases]
        found.append((config, made))
    return Runs(found, "paper", runs.failed if failed is None else failed)
