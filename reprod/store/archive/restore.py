"""Bring archived runs into a store.

A database (SQLite, PostgreSQL, ...) gets them under their own ids, all of them in one transaction. A tracking server
chooses the ids of its runs itself: there a run gets a new one, and the tag `reprod.archived_id`, which `Store.get`
understands, says which it had.

Everything is checked before anything is written: a store is as it was when an archive is refused.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprod import project
from reprod.errors import BadInput
from reprod.store.archive.format import Archive
from reprod.store.connection import MlflowException, experiment_id, first_line, say
from reprod.store.files import sha256
from reprod.store.outbox import BATCH
from reprod.store.reader import ARCHIVED_ID, Record, Store

Wanted = tuple[Archive, Mapping[str, Any]]


@dataclass(frozen=True)
class Restored:
    """How many runs were brought in, and how many were there; `renamed`: under other ids, for the store chose them."""

    new: int
    there: int
    renamed: bool


def restore(archives: Iterable[Archive], uri: str | None = None, only: Collection[str] | None = None) -> Restored:
    """Bring the runs of some archives into a store, all of them or `only` some. What it has is passed over. Raises
    `BadInput` for a damaged archive, and for a run that the store holds with another content."""
    store = Store(uri)
    wanted, there = [], 0
    for archive in archives:
        for run in archive.runs.values():
            if only is not None and run["id"] not in only:
                continue
            found = _found(store, run["id"])
            if found is None:
                wanted.append((archive, run))
            else:
                there += 1
                _compare(found, archive, run)
    for archive, run in wanted:
        for file in run["files"].values():
            archive.content(file)
        archive.history(run)
    wanted.sort(key=lambda each: (_depth(*each), each[1]["id"]))  # parents first
    into = _database(store)
    try:
        (_into_database if into is not None else _into_server)(store, into, wanted)
    except BadInput:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise BadInput(f"nothing was restored, the store {store.uri} refused it ({reason})") from error
    return Restored(len(wanted), there, into is None)


def fetch(where: str, digest: str | None = None) -> Path:
    """An archive from a file or a URL; checked against a sha256, if one is given."""
    scheme = urllib.parse.urlsplit(where).scheme
    if scheme in ("http", "https"):
        path = project.cache_dir() / "fetched" / (Path(urllib.parse.urlsplit(where).path).name or "archive.zip")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(where, timeout=60) as answer, open(path, "wb") as file:
                shutil.copyfileobj(answer, file)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise BadInput(f"--from {where}: cannot be fetched ({error})") from None
    else:
        path = Path(where)
    if digest is not None and path.is_file() and (found := sha256(path)) != digest.lower():
        raise BadInput(f"--from {where}: its sha256 is {found}, not {digest}; nothing was restored")
    return path


def _depth(archive: Archive, run: Mapping[str, Any]) -> int:
    parent = archive.runs.get(run["tags"].get("mlflow.parentRunId", ""))
    return 1 + _depth(archive, parent) if parent else 0


def _found(store: Store, run_id: str) -> Record | None:
    try:
        return store.get(run_id)
    except BadInput:
        return None


def _compare(record: Record, archive: Archive, run: Mapping[str, Any]) -> None:
    """Raises `BadInput` where a store has another run of the same id. A drawn figure may have been drawn again."""
    if "reprod.figure" in run["tags"]:
        return
    if record.entity.info.lifecycle_stage == "deleted":
        raise BadInput(f"run {run['id']} is deleted in the store: `mlflow runs restore --run-id {record.id}` first")
    there = (record.params, record.status, record.start, record.end, record.tags.get("reprod.config"))
    here = (run["params"], run["status"], run["start"], run["end"], run["tags"].get("reprod.config"))
    metrics = {name: float(value) for name, value in run["metrics"].items()}
    different = "" if there == here else "parameters, status or times"
    if record.metrics.keys() != metrics.keys() or not all(_equal(record.metrics[n], v) for n, v in metrics.items()):
        different = "metrics"
    root = record.store.local_root(record.entity)
    for name, file in run["files"].items() if root is not None else ():
        path = root / name
        if path.is_file() and "sha256" in file and sha256(path) != file["sha256"]:
            different = name
    if different:
        raise BadInput(
            f"run {run['id']} ({run['name']}): the store has a run of this id with other content ({different}) than "
            f"{archive.path}; nothing was restored"
        )


def _equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b)) or (abs(a) > 1e308 and abs(b) > 1e308 and (a > 0) == (b > 0))


def _tags(archive: Archive, run: Mapping[str, Any]) -> dict[str, str]:
    shown = archive.shown.get(run["id"])
    return {**run["tags"], **({"reprod.figures": ", ".join(shown)[:8000]} if shown else {})}


def _points(archive: Archive, run: Mapping[str, Any]) -> Iterator[tuple[str, float, int, int]]:
    """(metric, value, time, step)"""
    names = run["history"]["metrics"] if run["history"] else []
    for metric, step, time, value in archive.history(run).tolist():
        yield names[metric], value, time, step


def _unpack(archive: Archive, run: Mapping[str, Any], into: Path) -> None:
    for name, file in run["files"].items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.content(file))


# -- a database -------------------------------------------------------------------------------------------------------


def _database(store: Store) -> Any:
    """MLflow's store over SQL, where that is what we talk to."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    found = store.client._tracking_client.store
    return found if isinstance(found, SqlAlchemyStore) else None


def _into_database(store: Store, database: Any, wanted: Sequence[Wanted]) -> None:
    """MLflow's interface cannot choose the id of a run, so this writes rows, by MLflow's own classes."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import append_to_uri_path

    places = {run["place"]: experiment_id(store.client, run["place"]) for _, run in wanted}
    roots = {place: store.client.get_experiment(number).artifact_location for place, number in places.items()}
    made: list[Any] = []
    try:
        for archive, run in wanted:
            uri = append_to_uri_path(roots[run["place"]], run["id"], "artifacts")
            with tempfile.TemporaryDirectory() as folder:
                _unpack(archive, run, Path(folder))
                made.append(get_artifact_repository(uri))
                made[-1].log_artifacts(folder)
        with database.ManagedSessionMaker(read_only=False) as session:
            for archive, run in wanted:
                number = int(places[run["place"]])
                uri = append_to_uri_path(roots[run["place"]], run["id"], "artifacts")
                _insert(session, archive, run, number, uri)
    except BaseException:
        for repository in made:
            shutil.rmtree(getattr(repository, "_artifact_dir", "") or "/nowhere", ignore_errors=True)
        raise


def _insert(session: Any, archive: Archive, run: Mapping[str, Any], number: int, uri: str) -> None:
    import sqlalchemy
    from mlflow.store.tracking.dbmodels import models as sql

    def put(kind: Any, rows: list[dict[str, Any]]) -> None:
        if rows:
            session.execute(sqlalchemy.insert(kind), rows)

    key = {"run_uuid": run["id"]}
    put(sql.SqlRun, [{
        **key, "name": run["name"], "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "",
        "user_id": run["user"], "status": run["status"], "start_time": run["start"], "end_time": run["end"],
        "source_version": "", "lifecycle_stage": "active", "artifact_uri": uri, "experiment_id": number,
    }])  # fmt: skip
    put(sql.SqlTag, [{**key, "key": name, "value": text} for name, text in _tags(archive, run).items()])
    put(sql.SqlParam, [{**key, "key": name, "value": text} for name, text in run["params"].items()])
    points = {
        (name, time, step, 0.0 if math.isnan(value) else value, math.isnan(value)): None
        for name, value, time, step in _points(archive, run)
    }
    columns = ("key", "timestamp", "step", "value", "is_nan")
    put(sql.SqlMetric, [{**key, **dict(zip(columns, point, strict=True))} for point in points])
    latest: dict[str, tuple] = {}
    for point in points:
        name, time, step, value, _ = point
        if name not in latest or (step, time, value) > (latest[name][2], latest[name][1], latest[name][3]):
            latest[name] = point
    put(sql.SqlLatestMetric, [{**key, **dict(zip(columns, point, strict=True))} for point in latest.values()])
    for data in run["datasets"]:
        _insert_dataset(session, put, data, run["id"], number)


def _insert_dataset(session: Any, put: Any, data: Mapping[str, Any], run_id: str, number: int) -> None:
    import uuid

    from mlflow.store.tracking.dbmodels import models as sql

    same = session.query(sql.SqlDataset).filter_by(experiment_id=number, name=data["name"], digest=data["digest"])
    found = same.first()
    dataset = found.dataset_uuid if found else uuid.uuid4().hex
    if not found:
        put(sql.SqlDataset, [{
            "dataset_uuid": dataset, "experiment_id": number, "name": data["name"], "digest": data["digest"],
            "dataset_source_type": data["source_type"], "dataset_source": data["source"],
            "dataset_schema": data["schema"], "dataset_profile": data["profile"],
        }])  # fmt: skip
    edge = uuid.uuid4().hex
    put(sql.SqlInput, [{
        "input_uuid": edge, "source_type": "DATASET", "source_id": dataset, "destination_type": "RUN",
        "destination_id": run_id,
    }])  # fmt: skip
    put(sql.SqlInputTag, [{"input_uuid": edge, "name": name, "value": text} for name, text in data["tags"].items()])


# -- a server ---------------------------------------------------------------------------------------------------------


def _into_server(store: Store, _: None, wanted: Sequence[Wanted]) -> None:
    """By MLflow's interface. The tag with the old id comes last; after a failure what was made is deleted."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for each run
    client = store.client
    made: dict[str, str] = {}  # new ids by archived ones
    places = {run["place"]: experiment_id(client, run["place"]) for _, run in wanted}
    try:
        for archive, run in wanted:
            tags = _tags(archive, run)
            if parent := tags.get("mlflow.parentRunId"):
                tags["mlflow.parentRunId"] = made[parent] if parent in made else store.get(parent).id
            new = client.create_run(places[run["place"]], start_time=run["start"], run_name=run["name"]).info.run_id
            made[run["id"]] = new
            points = [Metric(name, value, time, step) for name, value, time, step in _points(archive, run)]
            for first in range(0, len(points), BATCH):
                client.log_batch(new, metrics=points[first : first + BATCH])
            client.log_batch(
                new,
                params=[Param(name, text) for name, text in run["params"].items()],
                tags=[RunTag(name, text) for name, text in tags.items()],
            )
            if run["datasets"]:
                inputs = [
                    DatasetInput(
                        Dataset(d["name"], d["digest"], d["source_type"], d["source"], d["schema"], d["profile"]),
                        [InputTag(name, text) for name, text in d["tags"].items()],
                    )
                    for d in run["datasets"]
                ]
                client.log_inputs(new, inputs)
            with tempfile.TemporaryDirectory() as folder:
                _unpack(archive, run, Path(folder))
                client.log_artifacts(new, folder)
            client.set_terminated(new, run["status"], run["end"])
            client.set_tag(new, ARCHIVED_ID, run["id"])
    except BaseException:
        for new in made.values():
            try:
                client.delete_run(new)
            except MlflowException as error:
                say(f"run {new} was half restored and could not be deleted: {first_line(error)}")
        raise
