"""The only writer of the store.

`open_run(config)` makes (or adopts, or resumes) an MLflow run and returns a `Run` whose calls reach the store through
an `Outbox`: a thread that sends in order, retries while the store is away, and at the end keeps on disk what it could
not send (`reprod sync` delivers it later). The computation never waits for the store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import platform
import shutil
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the outbox retries, and says so
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ["MLFLOW_TRUNCATE_LONG_VALUES"] = "false"  # an error, not a silent cut

import numpy as np
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from reprod import __version__, project
from reprod.config import Config, spell
from reprod.errors import BadInput, Diverged, Interrupted
from reprod.run import Run, as_array
from reprod.training import signals

CHECKPOINTS_KEPT = 2
BATCH = 1000  # metrics in one request: MLflow's limit
PERMANENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "PERMISSION_DENIED", "INVALID_STATE"}


# -- the store ----------------------------------------------------------------------------------------------------


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or MLflow's default `sqlite:///mlflow.db`, with an absolute path in either case."""
    return absolute_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def absolute_uri(uri: str) -> str:
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return f"{prefix}{Path(uri.removeprefix(prefix)).absolute()}"
    if "://" not in uri:
        raise BadInput(f"tracking URI {uri}: expected sqlite:///FILE, http(s)://HOST or postgresql://...")
    return uri


def connect(uri: str | None = None) -> MlflowClient:
    """A client of the store. Raises `BadInput` where it cannot be reached.

    Processes that open a new SQLite store at once would each create its tables and leave it broken for good, so they
    go through a file lock one after the other.
    """
    uri = absolute_uri(uri) if uri else tracking_uri()
    os.environ["MLFLOW_TRACKING_URI"] = uri  # model and artifact code of MLflow reads it
    try:
        with _opening(uri):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except BadInput:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise BadInput(f"cannot reach the store {_without_password(uri)}: {reason}") from error
    return client


@contextlib.contextmanager
def _opening(uri: str) -> Iterator[None]:
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.parent.is_dir():
        raise BadInput(f"cannot reach the store {uri}: there is no folder {path.parent}")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a store that may only be read needs no tables
            lock = stack.enter_context(open(path.with_name(path.name + ".lock"), "a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _without_password(uri: str) -> str:
    head, at, tail = uri.rpartition("@")
    return f"{head.split('://')[0]}://***@{tail}" if at else uri


def experiment_id(client: MlflowClient, name: str) -> str:
    if (found := client.get_experiment_by_name(name)) is not None:
        if found.lifecycle_stage == "deleted":
            raise BadInput(
                f"the MLflow experiment {name} is deleted: `mlflow experiments restore` it, or choose another"
            )
        return found.experiment_id
    try:
        kind = {"mlflow.experimentKind": "custom_model_development"}  # its page shows runs and models, not chats
        return client.create_experiment(name, artifact_location=_beside_store(client.tracking_uri, name), tags=kind)
    except MlflowException:  # another process was faster
        if (found := client.get_experiment_by_name(name)) is None:
            raise
        return found.experiment_id


def _beside_store(uri: str, name: str) -> str | None:
    """Artifacts of a SQLite store lie beside it. (MLflow would put them into the folder that happens to be current.)"""
    if not uri.startswith("sqlite:///"):
        return None
    folder = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return str(Path(uri.removeprefix("sqlite:///")).parent / "mlruns" / folder)


def cache_dir() -> Path:
    """Where work in progress and undelivered messages lie: `$REPROD_CACHE`, else ~/.cache/reprod."""
    return Path(os.environ.get("REPROD_CACHE") or Path.home() / ".cache" / "reprod")


# -- messages: what is sent, in the form in which it can also be kept on disk ---------------------------------------


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

    def __init__(self, client: MlflowClient, uri: str, owner: str):
        super().__init__(name="reprod-outbox", daemon=True)
        self.client = client
        self.uri = uri
        self.spool = cache_dir() / "spool" / f"{owner}.jsonl"
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

    def _first(self) -> dict[str, Any] | None:
        with self.changed:
            return self.queue[0] if self.queue else None

    def _back_off(self, error: Exception, wait: float) -> float:
        if not self.trouble:
            _say(f"the store does not answer ({_first_line(error)}); the run goes on, {len(self.queue)} messages wait")
        self.trouble = _first_line(error)
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
            _say(f"{len(left)} messages could not be sent and are kept in {self.spool}: `reprod sync` delivers them")
        return len(left)

    def _keep(self, messages: Sequence[Mapping[str, Any]], reason: str) -> None:
        self.spool.parent.mkdir(parents=True, exist_ok=True)
        with open(self.spool, "a") as file:
            for message in messages:
                file.write(json.dumps({**message, "uri": self.uri, "reason": reason}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def sync(client: MlflowClient) -> tuple[int, int]:
    """Deliver what earlier runs kept for this store. (delivered, still waiting)"""
    delivered = waiting = 0
    for spool in sorted((cache_dir() / "spool").glob("*.jsonl")):
        messages = [json.loads(line) for line in spool.read_text().splitlines()]
        left = []
        for index, message in enumerate(messages):
            if message["uri"] != client.tracking_uri:
                left.append(message)
                continue
            try:
                deliver(client, message)
                delivered += 1
            except Exception as error:
                if getattr(error, "error_code", None) not in PERMANENT:
                    left += messages[index:]
                    break
                left.append({**message, "reason": _first_line(error)})
        waiting += len(left)
        if left:
            temporary = spool.with_suffix(".new")
            temporary.write_text("".join(json.dumps(message) + "\n" for message in left))
            os.replace(temporary, spool)
        else:
            spool.unlink()
            shutil.rmtree(cache_dir() / "runs" / spool.stem, ignore_errors=True)
    return delivered, waiting


# -- the run ------------------------------------------------------------------------------------------------------


class MlflowRun(Run):
    """A `Run` whose calls reach the store. Made by `open_run`."""

    def __init__(self, config: Config, *, client: MlflowClient, run_id: str, outbox: Outbox, parent: MlflowRun | None):
        super().__init__(config)
        self.client = client
        self.run_id = run_id
        self.outbox = outbox
        self.parent = parent
        self.began = time.monotonic()
        self.latest: dict[str, float] = {}
        self.work = cache_dir() / "runs" / run_id
        self._done = False
        self._settled = False

    def _send(self, kind: str, **content: Any) -> None:
        self.outbox.put({"kind": kind, "run": self.run_id, **content})

    # what an experiment reports

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self.latest |= {name: float(value) for name, value in values.items()}
        self._send("metrics", points=[[name, float(value), now, int(step)] for name, value in values.items()])

    def array(
        self, name: str, values: Any, *, axes: Sequence[str], unit: str = "", about: str = "", exact: bool = False
    ) -> None:
        array = as_array(values, axes, unit, about, exact)
        path = self.work / "arrays" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.save(path, array.values, allow_pickle=False)
        except OSError as error:  # numpy says how many items it wrote, and not why
            if shutil.disk_usage(path.parent).free < array.values.nbytes:
                raise OSError(errno.ENOSPC, "No space left on device", str(path)) from error
            raise
        about_it = {
            "shape": list(array.values.shape), "dtype": str(array.values.dtype), "axes": list(array.axes),
            "unit": unit, "about": about, "sha256": sha256(path),
        }  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(about_it, indent=1))
        folder = str(Path("arrays", name).parent)
        self._send("artifact", path=str(path), to=folder)
        self._send("artifact", path=str(path.with_suffix(".json")), to=folder)

    def dataset(self, name: str, *, split: str, source: str, digest: str, size: int, shape: Sequence[int] = ()) -> None:
        profile = json.dumps({"size": size, "shape": list(shape), "sha256": digest})
        described = {
            "name": name, "digest": digest[:16], "source_type": "local", "source": json.dumps({"uri": source}),
            "profile": profile,
        }  # fmt: skip
        self._send("dataset", dataset=described, context=split)
        self._send("tags", tags={f"reprod.data.{name}.{split}": digest})

    def note(self, name: str, text: str) -> None:
        self._send("tags", tags={f"reprod.{name}": text[:8000]})

    def model(self, module: Any, *, arguments: Mapping[str, Any], example: Any, name: str = "model") -> None:
        from reprod import models

        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        models.save_weights(module, arguments, folder / "weights")
        self._send("artifact", path=str(folder / "weights"), to=name)
        tags = models.save_mlflow(module, example, folder / "mlflow", export=self.config.scale != "smoke")
        uri = f"runs:/{self.run_id}/{name}"
        note = f'Load it: `reprod load {self.run_id}`, `mlflow.pytorch.load_model("{uri}")`\n\nServe it: '
        note += f"`mlflow models serve -m {uri} --env-manager local`\n\nFormat: {tags['reprod.format']}"
        tags |= {"reprod.digest": self.config.digest(), "mlflow.note.content": note}
        self._send("model", path=str(folder / "mlflow"), name=name, tags=tags)

    def keep(self, name: str, text: str) -> None:
        """A text file under `provenance/`; nothing where there is no text."""
        if text:
            self.work.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(text)
            self._send("artifact", path=str(self.work / name), to="provenance")

    # seeds

    def _child(self, config: Config) -> MlflowRun:
        for found in self._recorded_children():
            if found.data.tags.get("reprod.digest") == config.digest():
                child = self._of(config, found.info.run_id)
                child._done = child._settled = found.info.status == "FINISHED"
                if not child._done and found.info.status != "RUNNING":
                    self.client.update_run(child.run_id, status="RUNNING")
                return child
        info = self.client.get_run(self.run_id).info
        tags = {**provenance(config), MLFLOW_PARENT_RUN_ID: self.run_id}
        created = self.client.create_run(info.experiment_id, tags=tags, run_name=config.title())
        child = self._of(config, created.info.run_id)
        child._send("params", params=config.spelled())
        return child

    def _recorded_children(self) -> list[Any]:
        if not hasattr(self, "_found"):
            info = self.client.get_run(self.run_id).info
            wanted = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}'"
            self._found = list(self.client.search_runs([info.experiment_id], wanted, max_results=1000))
        return self._found

    def _of(self, config: Config, run_id: str) -> MlflowRun:
        return MlflowRun(config, client=self.client, run_id=run_id, outbox=self.outbox, parent=self)

    @property
    def done(self) -> bool:
        return self._done

    def failed_children(self) -> list[Run]:
        return [child for child in self._children or [] if child.failure]

    # checkpoints

    def save(self, iteration: int, state: Mapping[str, Any]) -> None:
        """Keep `state` as the checkpoint of `iteration`: written beside, flushed, then renamed, so that it is whole or
        not there; its checksum goes into a manifest that is written, and uploaded, last."""
        import torch

        name = f"iteration-{iteration:09d}"
        folder = self.work / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        path, manifest = folder / f"{name}.pt", folder / f"{name}.json"
        write_whole(path, lambda file: torch.save({"state": state, "unsent": self.outbox.unsent_metrics()}, file))
        described = {"iteration": iteration, "sha256": sha256(path), "digest": self.config.digest()}
        write_whole(manifest, lambda file: file.write(json.dumps(described).encode()))
        self._send("artifact", path=str(path), to="checkpoints")
        self._send("artifact", path=str(manifest), to="checkpoints")
        for old in sorted(folder.glob("*.json"))[:-CHECKPOINTS_KEPT]:
            for stale in (old, old.with_suffix(".pt")):
                if not self.outbox.forget(stale):
                    self._send("delete", path=f"checkpoints/{stale.name}")
                stale.unlink(missing_ok=True)

    def restore(self) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint that is whole, from the work folder or the store. A damaged one is named and passed
        over; if every one is damaged, that is an error and not a silent fresh start."""
        import torch

        folder = self.work / "checkpoints"
        for temporary in folder.glob("*.tmp"):
            temporary.unlink()
        stored = {Path(f.path).name for f in self.client.list_artifacts(self.run_id, "checkpoints")}
        names = {path.stem for path in folder.glob("*.json")} | {Path(n).stem for n in stored if n.endswith(".json")}
        for name in sorted(names, reverse=True):
            try:
                path, manifest = (self._fetch(f"{name}.{ending}") for ending in ("pt", "json"))
                described = json.loads(manifest.read_text())
                if sha256(path) != described["sha256"]:
                    raise ValueError("its checksum differs")
                if described["digest"] != self.config.digest():
                    raise BadInput(f"checkpoint {name} of run {self.run_id} belongs to another configuration")
                content = torch.load(path, map_location="cpu", weights_only=True)
            except BadInput:
                raise
            except Exception as error:
                _say(f"checkpoint {name} of run {self.run_id} cannot be used ({_first_line(error)})")
                continue
            for message in content["unsent"]:
                self.outbox.put(message)
            _say(f"continuing run {self.run_id} behind iteration {described['iteration']}")
            return described["iteration"], content["state"]
        if names:
            raise BadInput(
                f"run {self.run_id} has no checkpoint that can be read; start it anew: {self.config.command()}"
            )
        return None

    def _fetch(self, name: str) -> Path:
        local, fetched = self.work / "checkpoints" / name, self.work / "fetched"
        if local.exists():
            return local
        fetched.mkdir(parents=True, exist_ok=True)
        return Path(self.client.download_artifacts(self.run_id, f"checkpoints/{name}", str(fetched)))

    # the end

    def finish(self) -> None:
        """Children first, then their mean and spread, then this run's own status."""
        if self._settled:
            return
        for child in self._children or []:
            child.finish()
        if self._children:
            self._summarise([c for c in self._children if isinstance(c, MlflowRun) and not c.failure])
        failed = self.failed_children()
        if failed and not self.failure:
            seeds = ", ".join(str(child.seed) for child in failed)
            self.failure = f"{len(failed)} of {len(self.children())} seeds failed ({seeds}): {failed[0].failure}"
        self.settle("FAILED" if self.failure else "FINISHED", self.failure or "")

    def _summarise(self, children: Sequence[MlflowRun]) -> None:
        collected: dict[str, list[float]] = {}
        for child in children:
            latest = child.latest or dict(self.client.get_run(child.run_id).data.metrics)
            for name, value in latest.items():
                collected.setdefault(name, []).append(value)
        summary = {}
        for name, values in collected.items():
            mean = math.fsum(values) / len(values)
            summary[name] = mean
            if len(set(values)) > 1 and all(map(math.isfinite, values)):
                summary[f"{name}_std"] = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
        self.log(0, summary)

    def settle(self, status: str, reason: str = "") -> None:
        """Set the final status, with its reason; children that are still open share it."""
        if self._settled:
            return
        self._settled = True
        for child in self._children or []:
            if isinstance(child, MlflowRun):
                child.settle(status, reason)
        outcome = "diverged" if self.diverged else status.lower()
        self._send("tags", tags={"reprod.outcome": outcome, "reprod.failure": reason[:8000]})
        self._send("metrics", points=[["seconds", time.monotonic() - self.began, int(time.time() * 1000), 0]])
        self._send("status", status=status, end=int(time.time() * 1000))

    def close(self, patience: float | None = None) -> bool:
        """Send everything; whether all of it arrived."""
        if patience is None:
            patience = float(os.environ.get("REPROD_PATIENCE", "60"))
        kept = self.outbox.close(patience)
        if not kept and not self.outbox.spool.exists():
            for run in (self, *(self._children or [])):
                if isinstance(run, MlflowRun):
                    shutil.rmtree(run.work / "arrays", ignore_errors=True)
                    if run._settled and run.failure is None:
                        shutil.rmtree(run.work, ignore_errors=True)
        return not kept


def open_run(config: Config, *, resume: str | None = None, parent_id: str | None = None) -> MlflowRun:
    """Make a run for `config`; or continue the run `resume`; or, under `mlflow run`, take the one that MLflow made."""
    client = connect()
    adopted = resume or os.environ.pop("MLFLOW_RUN_ID", None)
    tags = provenance(config)
    if parent_id:
        tags[MLFLOW_PARENT_RUN_ID] = parent_id
    try:
        if adopted:
            run_id = adopted
            client.update_run(run_id, status="RUNNING", name=config.title())
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.experiment
            run_id = client.create_run(experiment_id(client, name), tags=tags, run_name=config.title()).info.run_id
    except MlflowException as error:
        raise BadInput(f"the store refuses the run: {_first_line(error)}") from error
    outbox = Outbox(client, tracking_uri(), run_id)
    outbox.start()
    run = MlflowRun(config, client=client, run_id=run_id, outbox=outbox, parent=None)
    run._send("params", params=config.spelled())
    return run


@contextlib.contextmanager
def sweep(experiment: str, title: str, identity: str, note: str) -> Iterator[str]:
    """The parent run of a sweep: yields its id. The same sweep, unfinished, is taken up again."""
    client = connect()
    place = experiment_id(client, os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment)
    same = client.search_runs([place], f"tags.`reprod.sweep` = '{identity}' AND attributes.status != 'FINISHED'")
    tags = {"reprod.sweep": identity, "mlflow.note.content": note}
    run_id = same[0].info.run_id if same else client.create_run(place, tags=tags, run_name=title).info.run_id
    client.update_run(run_id, status="RUNNING")
    status = "KILLED"
    try:
        yield run_id
        status = "FINISHED"
    except Interrupted:
        raise
    except BaseException:
        status = "FAILED"
        raise
    finally:
        client.set_terminated(run_id, status)


def log_figure(client: MlflowClient, tags: Mapping[str, str], paths: Sequence[Path], records: Sequence[Any]) -> str:
    """Keep a drawn figure as a run of the MLflow experiment `figures`, one for each figure and scale, and name it in
    the tag `reprod.figures` of the runs behind it. Drawn again, it takes the place of the old one. The run's id."""
    place = experiment_id(client, "figures")
    name = f"{tags['reprod.figure']} ({tags['reprod.scale']})"
    same = " AND ".join(f"tags.`{key}` = '{tags[key]}'" for key in ("reprod.figure", "reprod.scale"))
    found = client.search_runs([place], same, max_results=1)
    run_id = found[0].info.run_id if found else client.create_run(place, run_name=name).info.run_id
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    for path in paths:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id, "FINISHED")
    for record in records:
        known = record.tags.get("reprod.figures", "").split(", ")
        if name not in known:
            client.set_tag(record.id, "reprod.figures", ", ".join(filter(None, [*known, name]))[:8000])
    return run_id


@contextlib.contextmanager
def recording(run: MlflowRun) -> Iterator[MlflowRun]:
    """Settle the run whatever happens in the block: FINISHED, FAILED with its reason, or KILLED by a signal."""
    try:
        run.keep("uncommitted.diff", project.git_diff())
        yield run
        with signals.deferred():
            run.finish()
    except (Interrupted, KeyboardInterrupt) as error:
        run.settle("KILLED", f"{error or 'stopped by Ctrl-C'}; `reprod resume {run.run_id}` continues it")
        raise
    except (Diverged, BadInput) as error:
        run.failure, run.diverged = str(error), isinstance(error, Diverged)
        run.settle("FAILED", str(error))
        raise
    except BaseException as error:
        run.failure = f"{type(error).__name__}: {_first_line(error)}"
        with contextlib.suppress(OSError):  # the disk may be full
            run.keep("traceback.txt", traceback.format_exc())
        run.settle("FAILED", run.failure)
        raise
    finally:
        with signals.deferred():  # a second signal does cut it short
            run.close()


# -- provenance ---------------------------------------------------------------------------------------------------


def provenance(config: Config) -> dict[str, str]:
    """Who made this run, from what, where: the tags of `design.md`."""
    import psutil

    commit, dirty = project.git_state()
    tags = {
        "reprod.paper": config.paper,
        "reprod.experiment": config.experiment,
        "reprod.scale": config.scale,
        "reprod.seed": spell(config.seeds),
        "reprod.digest": config.digest(),
        "reprod.config": json.dumps(config.spelled()),
        "reprod.version": __version__,
        "reprod.git_commit": commit,
        "reprod.git_dirty": spell(dirty),
        "reprod.lock": project.lock_digest(),
        "reprod.device": _device(config.device),
        "reprod.host": platform.node(),
        "reprod.cpu": _cpu(),
        "reprod.threads": str(_threads()),
        "reprod.python": platform.python_version(),
        "reprod.packages": json.dumps(_packages()),
        "reprod.process": f"{os.getpid()}:{psutil.Process().create_time():.2f}",
        "mlflow.note.content": _note(config),
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": "reprod",
        "mlflow.project.entryPoint": config.experiment,
    }
    if commit:
        tags["mlflow.source.git.commit"] = commit
    from reprod.launch import slurm_job

    return {**tags, "reprod.slurm_job": slurm_job()}


def _note(config: Config) -> str:
    about = (type(config).__doc__ or "").strip().splitlines()[0]
    figures = f"reprod figures --experiment {config.experiment}"
    return f"{about}\n\nMake it again: `{config.command()}`\n\nIts figures: `{figures}`"


def _device(device: str) -> str:
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return torch.cuda.get_device_name(torch.device("cuda" if device == "auto" else device))


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "torchvision", "torchdiffeq", "numpy", "scipy", "numba", "scikit-learn", "CMGDB", "mlflow"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


# -- small things -------------------------------------------------------------------------------------------------


def write_whole(path: Path, write: Any) -> None:
    """Write a file so that a kill or a full disk leaves the old one, or none, but never half of it."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def _say(text: str) -> None:
    print(f"reprod: {text}", file=sys.stderr, flush=True)


warnings.filterwarnings("ignore", category=FutureWarning, module="mlflow")
