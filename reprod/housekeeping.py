"""Looking after a store: the state of its runs, differences between two, exact re-execution, a copy to take along."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reprod import launch, registry, tracking
from reprod.errors import BadInput
from reprod.run import Run
from reprod.store import Record, Store

TIMING = {"seconds"}  # metrics that differ between two runs of the same thing


# -- status ---------------------------------------------------------------------------------------------------------


def state(record: Record) -> tuple[str, str]:
    """(live, dead, finished, failed or killed; what is known about it)."""
    if record.status == "RUNNING":
        owner = launch.alive(record.tags)
        return ("live", owner) if owner else ("dead", "its process is gone")
    return record.status.lower(), record.failure


def repair(store: Store, record: Record) -> None:
    """Settle a dead run: KILLED, with how to go on."""
    reason = f"its process is gone; `reprod resume {record.id}` continues it"
    store.client.set_tag(record.id, "reprod.failure", reason)
    store.client.set_tag(record.id, "reprod.outcome", "killed")
    store.client.set_terminated(record.id, "KILLED")


def orphans(store: Store) -> list[str]:
    """Runs that MLflow made and no entry point ever took (no conda, say), left as RUNNING."""
    places = [e.experiment_id for e in store.client.search_experiments(max_results=1000)]
    wanted = "attributes.status = 'RUNNING' AND tags.`mlflow.source.type` = 'PROJECT'"
    found = store.client.search_runs(places, wanted, max_results=1000)
    here = [run for run in found if "reprod.config" not in run.data.tags and "reprod.sweep" not in run.data.tags]
    names = set(registry.EXPERIMENTS)
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
    registry.function(config.experiment)(config, again)
    runs = {run.seed: run for run in again.children()}
    deviations = [d for r in recorded for d in _deviations(r, runs[r.seed], len(recorded) > 1)]
    now = {k.removeprefix("reprod."): v for k, v in tracking.provenance(config).items()}
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
        stored = record.array(name)
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


# -- export ---------------------------------------------------------------------------------------------------------


def export(store: Store, records: Sequence[Record], out: Path) -> tuple[int, int]:
    """Copy runs with their artifacts and models into a SQLite store in `out`, under the same run ids.

    The copy names its files relative to `out`, so it opens after being moved: `cd OUT && mlflow ui`, or
    `--tracking-uri sqlite:///OUT/mlflow.db` for the commands of reprod. An export that is there already is added to: a
    run that it holds is passed over, unless it was unfinished and has ended since. (runs copied, runs passed over)
    """
    database = out.absolute() / "mlflow.db"
    if out.exists() and any(out.iterdir()) and not database.exists():
        raise BadInput(f"--out {out}: the folder is not empty, and no earlier export")
    if store.uri == f"sqlite:///{database}":
        raise BadInput(f"--out {out}: that is the store itself")
    out.mkdir(parents=True, exist_ok=True)
    chosen = _with_parents(store, records)
    there = _open_export(database)
    wanted = [r for r in chosen if r.id not in there or (there[r.id] == "RUNNING" and r.status != "RUNNING")]
    new_ids: dict[str, str] = {}
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        client = tracking.connect(f"sqlite:///{database}")
        for record in wanted:
            copy = _copy(store, client, record)
            _forget(database, record.id)
            new_ids[record.id] = copy
    finally:
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
        _keep_identities(database, new_ids)
    return len(wanted), len(chosen) - len(wanted)


def _with_parents(store: Store, records: Sequence[Record]) -> list[Record]:
    known = {record.id: record for record in records}
    for record in records:
        if record.parent_id and record.parent_id not in known:
            known[record.parent_id] = store.get(record.parent_id)
    return list(known.values())


def _copy(store: Store, client: Any, record: Record) -> str:
    from mlflow.entities import Metric, Param, RunTag

    info, data = record.entity.info, record.entity.data
    place = tracking.experiment_id(client, store.client.get_experiment(info.experiment_id).name)
    made = client.create_run(place, start_time=info.start_time, run_name=info.run_name).info
    points = [Metric(p.key, p.value, p.timestamp, p.step) for name in data.metrics
              for p in store.client.get_metric_history(record.id, name)]  # fmt: skip
    for first in range(0, len(points), tracking.BATCH):
        client.log_batch(made.run_id, metrics=points[first : first + tracking.BATCH])
    params = [Param(key, value) for key, value in data.params.items()]
    tags = [RunTag(key, value) for key, value in data.tags.items()]
    client.log_batch(made.run_id, params=params[:100], tags=tags[:100])
    if record.entity.inputs and record.entity.inputs.dataset_inputs:
        client.log_inputs(made.run_id, record.entity.inputs.dataset_inputs)
    with contextlib.suppress(FileNotFoundError):
        shutil.copytree(record.path(""), Path(made.artifact_uri.removeprefix("file://")), dirs_exist_ok=True)
    _copy_models(store, client, record, made)
    client.set_terminated(made.run_id, info.status, info.end_time)
    return made.run_id


def _copy_models(store: Store, client: Any, record: Record, made: Any) -> None:
    import mlflow

    outputs = record.entity.outputs.model_outputs if record.entity.outputs else []
    for output in outputs:
        logged = store.client.get_logged_model(output.model_id)
        # a copy of our own, named as such: without a place to go, MLflow may hand out the original, and deliver()
        # patches its MLmodel
        copy = tracking.cache_dir() / "export" / output.model_id
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        with _current(store.client.tracking_uri):
            mlflow.artifacts.download_artifacts(f"models:/{output.model_id}", dst_path=str(copy))
        message = {"kind": "model", "run": made.run_id, "path": str(copy), "name": logged.name, "tags": logged.tags}
        tracking.deliver(client, message)
        shutil.rmtree(copy)


class _current:
    """Another current store for a moment: MLflow's model functions know no other way."""

    def __init__(self, uri: str):
        self.uri = uri

    def __enter__(self) -> None:
        self.before = os.environ.get("MLFLOW_TRACKING_URI")
        os.environ["MLFLOW_TRACKING_URI"] = self.uri

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = self.before


RUN_COLUMNS = ("run_uuid", "run_id", "source_run_id", "source_id", "destination_id")
PATH_COLUMNS = ("artifact_uri", "artifact_location")


def _columns(connection: sqlite3.Connection, wanted: Sequence[str]) -> list[tuple[str, str]]:
    """(table, column) for every column of one of these names."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [(t, c[1]) for t in tables for c in connection.execute(f"PRAGMA table_info({t})") if c[1] in wanted]


# MLflow's interface can neither choose the id of a run nor move one, so these functions write tables; an export is
# ours alone.


def _open_export(database: Path) -> dict[str, str]:
    """The runs of an earlier export and their status; its paths become absolute while it is added to."""
    if not database.exists():
        return {}
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _columns(connection, PATH_COLUMNS):
            relative = f"{column} LIKE 'mlruns/%'"
            connection.execute(
                f"UPDATE {table} SET {column} = ? || {column} WHERE {relative}", (f"{database.parent}/",)
            )
        return dict(connection.execute("SELECT run_uuid, status FROM runs"))


def _forget(database: Path, run_id: str) -> None:
    """Remove a run from an export."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _columns(connection, RUN_COLUMNS):
            connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (run_id,))
    for artifacts in database.parent.glob(f"mlruns/*/{run_id}"):
        shutil.rmtree(artifacts)


def _keep_identities(database: Path, new_ids: Mapping[str, str]) -> None:
    """Give the copies the ids of the originals, and make every path relative."""
    folder = f"{database.parent}/"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table, column in _columns(connection, RUN_COLUMNS):
            known = {value for (value,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}")}
            swap = [(old, new) for old, new in new_ids.items() if new in known]
            connection.executemany(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", swap)
        for table, column in _columns(connection, PATH_COLUMNS):
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, '')", (folder,))
        renamed = [(new, old, old) for old, new in new_ids.items()]
        connection.executemany("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?) WHERE run_uuid = ?", renamed)
    for old, new in new_ids.items():
        for artifacts in database.parent.glob(f"mlruns/*/{new}"):
            artifacts.rename(artifacts.with_name(old))
    for description in database.parent.glob("mlruns/*/models/*/artifacts/MLmodel"):
        text = whole = description.read_text()
        text = text.replace(folder, "")
        for old, new in new_ids.items():
            text = text.replace(new, old)
        if text != whole:
            description.write_text(text)
