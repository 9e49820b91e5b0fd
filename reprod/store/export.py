"""A copy of runs to take along: a SQLite store that opens after being moved, under the same run ids."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reprod import project
from reprod.errors import BadInput
from reprod.store.connection import (
    MlflowException,
    artifact_folder,
    artifact_text,
    cache_dir,
    connect,
    experiment_id,
    first_line,
    say,
)
from reprod.store.connection import database as file_of
from reprod.store.outbox import BATCH, deliver
from reprod.store.reader import Record, Store


def export(store: Store, records: Sequence[Record], out: Path, lacking: list[str] | None = None) -> tuple[int, int]:
    """Copy runs with their artifacts and models into a SQLite store in `out`, under the same run ids.

    The copy names its files relative to `out`, so it opens after being moved: `cd OUT && mlflow ui`, or
    `--tracking-uri sqlite:///OUT/mlflow.db` for the commands of reprod. An export that is there already is added to: a
    run that it holds is passed over, unless it was unfinished and has ended since (a figure: was drawn again). What
    could not be copied is said, and added to `lacking`. (runs copied, runs passed over)
    """
    database = out.absolute() / "mlflow.db"
    project.writable(out, "--out")
    if any(out.iterdir()) and not database.exists():
        raise BadInput(f"--out {out}: the folder is not empty, and no earlier export")
    if file_of(store.uri) == database:
        raise BadInput(f"--out {out}: that is the store itself")
    lacking = [] if lacking is None else lacking
    chosen = _with_parents(store, records)
    there = _open_export(database)
    wanted = [r for r in chosen if r.id not in there or _ended_since(r, *there[r.id])]
    new_ids: dict[str, str] = {}
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        client = connect(f"sqlite:///{database}")
        for record in wanted:
            copy = _copy(store, client, record, lacking)
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
            parent = store.parent(record)
            if parent is None:
                say(f"run {record.id} ({record.name}): the run {record.parent_id} that it belongs to is gone")
            else:
                known[parent.id] = parent
    return list(known.values())


def _ended_since(record: Record, status: str, ended: int | None) -> bool:
    changed = "reprod.figure" in record.tags and ended != record.entity.info.end_time
    return record.status != "RUNNING" and (status == "RUNNING" or changed)


def _copy(store: Store, client: Any, record: Record, lacking: list[str]) -> str:
    from mlflow.entities import Metric, Param, RunTag

    info, data = record.entity.info, record.entity.data
    place = experiment_id(client, store.client.get_experiment(info.experiment_id).name)
    made = client.create_run(place, start_time=info.start_time, run_name=info.run_name).info
    points = [Metric(p.key, p.value, p.timestamp, p.step) for name in data.metrics
              for p in store.client.get_metric_history(record.id, name)]  # fmt: skip
    for first in range(0, len(points), BATCH):
        client.log_batch(made.run_id, metrics=points[first : first + BATCH])
    params = [Param(key, value) for key, value in data.params.items()]
    tags = [RunTag(key, value) for key, value in data.tags.items()]
    for first in range(0, max(len(params), len(tags)), 100):
        client.log_batch(made.run_id, params=params[first : first + 100], tags=tags[first : first + 100])
    if record.entity.inputs and record.entity.inputs.dataset_inputs:
        client.log_inputs(made.run_id, record.entity.inputs.dataset_inputs)
    folder = artifact_folder(made.artifact_uri)
    assert folder is not None
    try:
        shutil.copytree(record.path(""), folder, dirs_exist_ok=True)
    except FileNotFoundError:
        if record.status == "FINISHED" and "," not in record.tags.get("reprod.seed", ","):
            _lack(lacking, record, "its artifacts are gone")
    except OSError as error:
        _lack(lacking, record, f"not all of its artifacts can be read ({str(error)[:200]})")
    try:
        _copy_models(store, client, record, made)
    except (MlflowException, OSError) as error:
        _lack(lacking, record, f"its model cannot be copied ({first_line(error)})")
    client.set_terminated(made.run_id, info.status, info.end_time)
    return made.run_id


def _lack(lacking: list[str], record: Record, what: str) -> None:
    lacking.append(f"run {record.id} ({record.name}): {what}")
    say(lacking[-1])


def _copy_models(store: Store, client: Any, record: Record, made: Any) -> None:
    import mlflow

    outputs = record.entity.outputs.model_outputs if record.entity.outputs else []
    for output in outputs:
        logged = store.client.get_logged_model(output.model_id)
        # a copy of our own, named as such: without a place to go, MLflow may hand out the original, and deliver()
        # patches its MLmodel
        copy = cache_dir() / "export" / output.model_id
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        with _current(store.client.tracking_uri):
            mlflow.artifacts.download_artifacts(f"models:/{output.model_id}", dst_path=str(copy))
        message = {"kind": "model", "run": made.run_id, "path": str(copy), "name": logged.name, "tags": logged.tags}
        deliver(client, message)
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


def _open_export(database: Path) -> dict[str, tuple[str, int | None]]:
    """The runs of an earlier export, their status and end; its paths become absolute while it is added to."""
    if not database.exists():
        return {}
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _columns(connection, PATH_COLUMNS):
            relative = f"{column} LIKE 'mlruns/%'"
            connection.execute(
                f"UPDATE {table} SET {column} = ? || {column} WHERE {relative}", (f"{artifact_text(database.parent)}/",)
            )
        rows = connection.execute("SELECT run_uuid, status, end_time FROM runs")
        return {run: (status, ended) for run, status, ended in rows}


def _forget(database: Path, run_id: str) -> None:
    """Remove a run from an export."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _columns(connection, RUN_COLUMNS):
            connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (run_id,))
    for artifacts in database.parent.glob(f"mlruns/*/{run_id}"):
        shutil.rmtree(artifacts)


def _keep_identities(database: Path, new_ids: Mapping[str, str]) -> None:
    """Give the copies the ids of the originals, and make every path relative."""
    folder = f"{artifact_text(database.parent)}/"
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
        text = whole = description.read_text(encoding="utf-8")
        text = text.replace(folder, "")
        for old, new in new_ids.items():
            text = text.replace(new, old)
        if text != whole:
            description.write_text(text, encoding="utf-8")
