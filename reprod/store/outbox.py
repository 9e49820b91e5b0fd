"""Messages to the store, in the form in which they can also be kept on disk, and the thread that sends them.

The thread sends in order, retries while the store is away, and at the end keeps on disk what it could not send
(`reprod sync` delivers it later).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag

from reprod.errors import masked
from reprod.store.connection import MlflowClient, MlflowException, cache_dir, first_line, say
from reprod.store.liveness import SEEN

BATCH = 1000  # metrics in one request: MLflow's limit
PERMANENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "PERMISSION_DENIED", "INVALID_STATE"}


def deliver(client: MlflowClient, message: Mapping[str, Any]) -> None:
    """Carry out one message. Doing one twice is harmless."""
    run = message["run"]
    match message["kind"]:
        case "metrics":
            for first in range(0, len(message["points"]), BATCH):
                points = [Metric(*point) for point in message["points"][first : first + BATCH]]
                client.log_batch(run, metrics=points)
        case "params":
            known = client.get_run(run).data.params
            new = [Param(key, value) for key, value in message["params"].items() if key not in known]
            client.log_batch(run, params=new)
        case "tags":
            client.log_batch(run, tags=[RunTag(key, value) for key, value in message["tags"].items()])
        case "artifact":
            client.log_artifact(run, message["path"], message["to"])
        case "delete":
            delete_artifact(client, run, message["path"])
        case "dataset":
            dataset = Dataset(**message["dataset"])
            tags = [InputTag("mlflow.data.context", message["context"])]
            client.log_inputs(run, [DatasetInput(dataset, tags)])
        case "model":
            _deliver_model(client, run, message)
        case "status":
            client.set_terminated(run, message["status"], message["end"])


def _deliver_model(client: MlflowClient, run: str, message: Mapping[str, Any]) -> None:
    from mlflow.models import Model

    folder = Path(message["path"])
    info = client.get_run(run).info
    logged = client.create_logged_model(
        info.experiment_id, name=message["name"], source_run_id=run, tags=message["tags"], model_type="pytorch"
    )
    description = Model.load(folder)
    description.run_id, description.model_id, description.model_uuid = run, logged.model_id, logged.model_id
    description.artifact_path = logged.artifact_location
    description.save(folder / "MLmodel")
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])


def delete_artifact(client: MlflowClient, run: str, path: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(client.get_run(run).info.artifact_uri)
    try:
        repository.delete_artifacts(path)
    except FileNotFoundError:
        pass
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


class Outbox(threading.Thread):
    """Sends messages in order, from a thread; retries what fails; on `close` keeps on disk what could not be sent."""

    INTERVAL = 1.0  # seconds between two deliveries: metrics that gather meanwhile go in one request
    BEAT = 60.0  # seconds between two signs of life

    def __init__(self, client: MlflowClient, uri: str, owner: str):
        super().__init__(name="reprod-outbox", daemon=True)
        self.client = client
        self.uri = masked(uri)  # a password stays out of what is kept; `sync` takes it from the environment
        self.living = {owner}  # the runs that are not settled: they get signs of life
        self.spool = cache_dir() / "spool" / f"{owner}.jsonl"
        self.lock = FileLock(f"{self.spool}.lock", thread_local=False)  # held while this process adds to the spool
        self.beat = time.monotonic()
        self.queue: list[dict[str, Any]] = []
        self.changed = threading.Condition()
        self.closing = False
        self.busy_seconds = 0.0
        self.trouble = ""

    def put(self, message: dict[str, Any]) -> None:
        with self.changed:
            last = self.queue[-1] if len(self.queue) > 1 else None  # the first may be under way
            if last and message["kind"] == last["kind"] == "metrics" and message["run"] == last["run"]:
                last["points"].extend(message["points"])
            else:
                self.queue.append(message)

    def forget(self, path: Path) -> bool:
        """Drop the upload of a file that is superseded; false if it is under way or done."""
        with self.changed:
            for message in self.queue[1:]:
                if message["kind"] == "artifact" and message["path"] == str(path):
                    self.queue.remove(message)
                    return True
        return False

    def unsent_metrics(self) -> list[dict[str, Any]]:
        with self.changed:
            return [{**m, "points": [list(p) for p in m["points"]]} for m in self.queue if m["kind"] == "metrics"]

    def run(self) -> None:
        wait = self.INTERVAL
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closing, wait)
                if self.closing and not self.queue:
                    return
            wait = self.INTERVAL
            self._show_life()
            while (message := self._first()) is not None:
                began = time.thread_time()
                try:
                    deliver(self.client, message)
                except Exception as error:
                    if isinstance(error, FileNotFoundError) and message.get("to") == "checkpoints":
                        pass  # superseded while it was waiting
                    elif getattr(error, "error_code", None) in PERMANENT or isinstance(error, FileNotFoundError):
                        self._keep([message], f"{type(error).__name__}: {error}")
                    else:
                        wait = self._back_off(error, wait)
                        break
                self.trouble = ""
                self.busy_seconds += time.thread_time() - began
                with self.changed:
                    if not self.queue:
                        return  # `close` lost patience meanwhile and keeps the message on disk
                    self.queue.pop(0)
                    self.changed.notify_all()

    def _show_life(self) -> None:
        """A tag with the time, for those who cannot see this process: another machine, another container."""
        if self.closing or time.monotonic() - self.beat < self.BEAT:
            return
        self.beat = time.monotonic()
        with contextlib.suppress(Exception):  # the next one will do
            for run in tuple(self.living):
                self.client.set_tag(run, SEEN, str(int(time.time())))

    def _first(self) -> dict[str, Any] | None:
        with self.changed:
            return self.queue[0] if self.queue else None

    def _back_off(self, error: Exception, wait: float) -> float:
        if not self.trouble:
            say(f"the store does not answer ({first_line(error)}); the run goes on, {len(self.queue)} messages wait")
        self.trouble = first_line(error)
        return min(2 * wait, 15.0) if not self.closing else 1.0

    def close(self, patience: float) -> int:
        """Send what is left, for at most `patience` seconds, and keep the rest on disk. How many were kept."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.queue, patience)
            left, self.queue = self.queue, []
        if left:
            self._keep(left, self.trouble)
            say(f"{len(left)} messages could not be sent and are kept in {self.spool}: `reprod sync` delivers them")
        self.lock.release()
        return len(left)

    def _keep(self, messages: Sequence[Mapping[str, Any]], reason: str) -> None:
        self.spool.parent.mkdir(parents=True, exist_ok=True)
        if not self.lock.is_locked:
            self.lock.acquire()
        with open(self.spool, "a") as file:
            for message in messages:
                file.write(json.dumps({**message, "uri": self.uri, "reason": masked(reason)}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _spools() -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """What earlier runs kept, run by run; a line that was cut off (by a full disk) is passed over."""
    for spool in sorted((cache_dir() / "spool").glob("*.jsonl")):
        messages = []
        for line in spool.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                message = json.loads(line)
                messages.append({**message, "uri": message["uri"], "run": message["run"]})
            except (ValueError, TypeError, KeyError):
                say(f"{spool} has a damaged line, which is passed over")
        yield spool, messages


def undelivered(uri: str) -> dict[str, int]:
    """How many messages wait on this machine for each run of a store."""
    return dict(Counter(m["run"] for _, messages in _spools() for m in messages if masked(m["uri"]) == masked(uri)))


def sync(client: MlflowClient) -> tuple[int, int]:
    """Deliver what earlier runs kept for this store. (delivered, still waiting)"""
    delivered = waiting = 0
    for spool, messages in _spools():
        try:
            with FileLock(f"{spool}.lock", timeout=0):
                done, left = _deliver_kept(client, messages)
                delivered, waiting = delivered + done, waiting + len(left)
                if left:
                    temporary = spool.with_suffix(".new")
                    temporary.write_text("".join(json.dumps(message) + "\n" for message in left))
                    os.replace(temporary, spool)
                else:
                    spool.unlink()
                    shutil.rmtree(cache_dir() / "runs" / spool.stem, ignore_errors=True)
        except Timeout:  # its run is not over
            waiting += len(messages)
            continue
        if not left:
            Path(f"{spool}.lock").unlink(missing_ok=True)
    return delivered, waiting


def _deliver_kept(client: MlflowClient, messages: Sequence[dict[str, Any]]) -> tuple[int, list[dict[str, Any]]]:
    delivered, left = 0, []
    for index, message in enumerate(messages):
        if masked(message["uri"]) != masked(client.tracking_uri):
            left.append(message)
            continue
        try:
            deliver(client, message)
            delivered += 1
        except Exception as error:
            if getattr(error, "error_code", None) not in PERMANENT:
                return delivered, [*left, *messages[index:]]
            left.append({**message, "reason": first_line(error)})
    return delivered, left
