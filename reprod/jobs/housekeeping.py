"""Looking after a store: the state of its runs, differences between two, exact re-execution."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reprod import papers
from reprod.errors import BadInput, LeftOut
from reprod.run import Run
from reprod.store import Record, Store
from reprod.store.archive.format import as_npy, digest_of
from reprod.store.liveness import alive
from reprod.store.provenance import provenance
from reprod.store.writer import settle

TIMING = {"seconds"}  # metrics that differ between two runs of the same thing


# -- status ---------------------------------------------------------------------------------------------------------


def state(record: Record) -> tuple[str, str]:
    """(live, dead, finished, failed or killed; what is known about it)."""
    if record.status == "RUNNING":
        owner = alive(record.tags)
        return ("live", owner) if owner else ("dead", "its process is gone")
    return record.status.lower(), record.failure


def repair(store: Store, record: Record) -> None:
    """Settle a dead run: KILLED, with how to go on."""
    reason = f"its process is gone; `reprod resume {record.id}` continues it"
    settle(store.client, record.id, "KILLED", reason)


def repair_orphan(store: Store, run_id: str) -> None:
    settle(store.client, run_id, "FAILED", "made by `mlflow run`, never started")


def orphans(store: Store) -> list[str]:
    """Runs that MLflow made and no entry point ever took (no conda, say), left as RUNNING."""
    places = [e.experiment_id for e in store.client.search_experiments(max_results=1000)]
    wanted = "attributes.status = 'RUNNING' AND tags.`mlflow.source.type` = 'PROJECT'"
    found = store.client.search_runs(places, wanted, max_results=1000)
    here = [run for run in found if "reprod.config" not in run.data.tags and "reprod.sweep" not in run.data.tags]
    names = set(papers.experiments())
    return [run.info.run_id for run in here if run.data.tags.get("mlflow.project.entryPoint") in names]


# -- diff -----------------------------------------------------------------------------------------------------------


def differences(a: Record, b: Record) -> Iterator[tuple[str, str, str, str]]:
    """(what, name, in a, in b) for parameters, environment and metrics that differ."""
    yield from _differing("parameter", a.config.spelled(), b.config.spelled())
    yield from _differing("environment", environment(a), environment(b))
    metrics = [{k: f"{v:.10g}" for k, v in r.metrics.items()} for r in (a, b)]
    yield from _differing("metric", *metrics)


def environment(record: Record) -> dict[str, str]:
    kept = ("git_commit", "git_dirty", "lock", "device", "host", "cpu", "threads", "python", "version")
    packages = json.loads(record.tags.get("reprod.packages", "{}"))
    return {name: record.tags.get(f"reprod.{name}", "") for name in kept} | packages


def _differing(what: str, a: dict[str, str], b: dict[str, str]) -> Iterator[tuple[str, str, str, str]]:
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            yield what, name, a.get(name, "-"), b.get(name, "-")


# -- verify ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deviation:
    """The largest difference between a recorded curve or array and its re-execution."""

    name: str
    points: int
    largest: float

    @property
    def equal(self) -> bool:
        return self.largest == 0.0


def verify(store: Store, run_id: str) -> tuple[list[Deviation], list[tuple[str, str, str, str]]]:
    """Re-execute a finished run from its recorded parameters, in memory; compare every metric and array.

    A seed of a batch is compared within its whole batch: a batch of another size may round differently. Returns the
    deviations and what differs in the environment. Raises `BadInput` for a run that is not finished.
    """
    record = store.get(run_id)
    if record.status != "FINISHED":
        raise BadInput(f"run {run_id} is {record.status}: only a finished run can be verified")
    config = record.config
    config.prepare()
    recorded = [record]
    if record.parent_id and "reprod.config" in (parent := store.get(record.parent_id)).tags:
        config = parent.config
    elif record.seed is None:
        recorded = sorted(store.children(record.id), key=lambda r: r.seed or 0)
    again = Run(config)
    papers.function(config.experiment)(config, again)
    runs = {run.seed: run for run in again.children()}
    deviations = [d for r in recorded for d in _deviations(r, runs[r.seed], len(recorded) > 1)]
    now = {k.removeprefix("reprod."): v for k, v in provenance(config).items()}
    now |= json.loads(now["packages"])
    then = environment(record)
    return deviations, list(_differing("environment", then, {name: now.get(name, "") for name in then}))


def _deviations(record: Record, run: Run, many: bool) -> Iterator[Deviation]:
    prefix = f"seed {record.seed}: " if many else ""
    for name, points in sorted(run.metrics.items()):
        if name in TIMING:
            continue
        then, now = record.history(name), dict(points)
        steps = sorted(then.index.union(list(now)))
        gaps = [_gap(then.get(s, math.inf), now.get(s, -math.inf)) for s in steps]
        yield Deviation(prefix + name, len(steps), max(gaps, default=0.0))
    for name, array in sorted(run.arrays.items()):
        if name.startswith("timing"):
            continue
        try:
            stored = record.array(name)
        except LeftOut as left:  # an archive has no more than its sum
            same = digest_of(as_npy(array.values)) == left.sha256
            yield Deviation(f"{prefix}array {name}", array.values.size, 0.0 if same else math.inf)
            continue
        same = stored.shape == array.values.shape
        largest = _array_gap(np.asarray(stored), array.values) if same else math.inf
        yield Deviation(f"{prefix}array {name}", stored.size, largest)


def _gap(a: float, b: float) -> float:
    if a == b or (math.isnan(a) and math.isnan(b)) or (abs(a) > 1e308 and abs(b) > 1e308 and (a > 0) == (b > 0)):
        return 0.0
    return abs(a - b)


def _array_gap(a: np.ndarray, b: np.ndarray) -> float:
    if np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
        return 0.0
    if a.dtype.kind not in "fciub":
        return math.inf
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(a.astype(np.float64) - b.astype(np.float64))))
