"""Looking after a store: the state of its runs, differences between two, exact re-execution, a copy to take along."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
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


def export(store: Store, records: Sequence[Record], out: Path) -> int:
    """Copy runs with their artifacts and models into a new SQLite store in `out`, under the same run ids.

    The copy names its files relative to `out`, so it opens after being moved: `cd OUT && mlflow ui`, or
    `--tracking-uri sqlite:///OUT/mlflow.db` for the commands of reprod. How many runs were copied.
    """
    if out.exists() and any(out.iterdir()):
        raise BadInput(f"--out {out}: the folder is not empty")
    out.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        client = tracking.connect(f"sqlite:///{out.absolute()}/mlflow.db")
        new_ids = {record.id: _copy(store, client, record, out) for record in _with_parents(store, records)}
    finally:
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
    _keep_identities(out / "mlflow.db", new_ids)
    return len(new_ids)


def _with_parents(store: Store, records: Sequence[Record]) -> list[Record]:
    known = {record.id: record for record in records}
    for record in records:
        if record.parent_id and record.parent_id not in known:
            known[record.parent_id] = store.get(record.parent_id)
    return list(known.values())


def _copy(store: Store, client: Any, record: Record, out: Path) -> str:
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
        source = store.client.tracking_uri
        with _current(source):
            folder = mlflow.artifacts.download_artifacts(f"models:/{output.model_id}")
        # the folder may be the original: deliver() patches its MLmodel, so work on a copy
        copy = tracking.cache_dir() / "export" / output.model_id
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
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


def _keep_identities(database: Path, new_ids: dict[str, str]) -> None:
    """Give the copies the ids of the originals, and make every path relative. MLflow's interface can do neither; this
    store is ours alone."""
    folder = str(database.parent.absolute())
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            ids = [c for c in columns if c in ("run_uuid", "run_id", "source_run_id", "source_id", "destination_id")]
            for column in ids:
                for old, new in new_ids.items():
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (old, new))
            for column in [c for c in columns if c in ("artifact_uri", "artifact_location")]:
                connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, '')", (folder + "/",))
                for old, new in new_ids.items():
                    connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (new, old))
    for old, new in new_ids.items():
        for artifacts in database.parent.glob(f"mlruns/*/{new}"):
            artifacts.rename(artifacts.with_name(old))
    for description in database.parent.glob("mlruns/*/models/*/artifacts/MLmodel"):
        text = description.read_text().replace(folder + "/", "")
        for old, new in new_ids.items():
            text = text.replace(new, old)
        description.write_text(text)
