"""The only writer of the store.

`open_run(config)` makes (or adopts, or resumes) an MLflow run and returns a `Run` whose calls reach the store through
an `Outbox`: a thread that sends in order, retries while the store is away, and at the end keeps on disk what it could
not send (`reprod sync` delivers it later). The computation never waits for the store.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.entities import RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from reprod import project
from reprod.config import Config
from reprod.errors import BadInput, Diverged, Interrupted
from reprod.run import Run, as_array, as_table
from reprod.store import checkpoints, reader
from reprod.store.connection import (
    MlflowClient,
    MlflowException,
    cache_dir,
    connect,
    experiment_id,
    first_line,
    tracking_uri,
)
from reprod.store.files import sha256
from reprod.store.outbox import Outbox
from reprod.store.provenance import provenance
from reprod.training import signals

if TYPE_CHECKING:
    import pandas as pd


class MlflowRun(Run):
    """A `Run` whose calls reach the store. Made by `open_run`."""

    def __init__(self, config: Config, *, client: MlflowClient, run_id: str, outbox: Outbox, parent: MlflowRun | None):
        super().__init__(config, lookup=partial(reader.lookup, client))
        self.client = client
        self.run_id = run_id
        self.outbox = outbox
        self.parent = parent
        self.began = time.monotonic()
        self.latest: dict[str, float] = {}
        self.work = cache_dir() / "runs" / run_id
        self._done = False
        self._settled = False

    def send(self, kind: str, **content: Any) -> None:
        self.outbox.put({"kind": kind, "run": self.run_id, **content})

    # what an experiment reports

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self.latest |= {name: float(value) for name, value in values.items()}
        self.send("metrics", points=[[name, float(value), now, int(step)] for name, value in values.items()])

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
        self.send("artifact", path=str(path), to=folder)
        self.send("artifact", path=str(path.with_suffix(".json")), to=folder)

    def table(self, name: str, frame: pd.DataFrame, *, units: Mapping[str, str] | None = None, about: str = "") -> None:
        table = as_table(frame, units, about)
        path = self.work / "tables" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.frame.to_csv(path, index=False, lineterminator="\n")
        kinds = {column: str(kind) for column, kind in table.frame.dtypes.items()}
        about_it = {
            "rows": len(table.frame), "columns": kinds, "units": dict(table.units), "about": about,
            "sha256": sha256(path),
        }  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(about_it, indent=1))
        folder = str(Path("tables", name).parent)
        self.send("artifact", path=str(path), to=folder)
        self.send("artifact", path=str(path.with_suffix(".json")), to=folder)

    def dataset(self, name: str, *, split: str, source: str, digest: str, size: int, shape: Sequence[int] = ()) -> None:
        profile = json.dumps({"size": size, "shape": list(shape), "sha256": digest})
        described = {
            "name": name, "digest": digest[:16], "source_type": "local", "source": json.dumps({"uri": source}),
            "profile": profile,
        }  # fmt: skip
        self.send("dataset", dataset=described, context=split)
        self.send("tags", tags={f"reprod.data.{name}.{split}": digest})

    def note(self, name: str, text: str) -> None:
        self.send("tags", tags={f"reprod.{name}": text[:8000]})

    def model(self, module: Any, *, arguments: Mapping[str, Any], example: Any, name: str = "model") -> None:
        from reprod import models

        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        models.save_weights(module, arguments, folder / "weights")
        self.send("artifact", path=str(folder / "weights"), to=name)
        tags = models.save_mlflow(module, example, folder / "mlflow", export=self.config.scale != "smoke")
        uri = f"runs:/{self.run_id}/{name}"
        note = f'Load it: `reprod load {self.run_id}`, `mlflow.pytorch.load_model("{uri}")`\n\nServe it: '
        note += f"`mlflow models serve -m {uri} --env-manager local`\n\nFormat: {tags['reprod.format']}"
        tags |= {"reprod.digest": self.config.digest(), "mlflow.note.content": note}
        self.send("model", path=str(folder / "mlflow"), name=name, tags=tags)

    def keep(self, name: str, text: str) -> None:
        """A text file under `provenance/`; nothing where there is no text."""
        if text:
            self.work.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(text)
            self.send("artifact", path=str(self.work / name), to="provenance")

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
        child.send("params", params=config.spelled())
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
        checkpoints.save(self, iteration, state)

    def restore(self) -> tuple[int, dict[str, Any]] | None:
        return checkpoints.restore(self)

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
        self.send("tags", tags={"reprod.outcome": outcome, "reprod.failure": reason[:8000]})
        self.send("metrics", points=[["seconds", time.monotonic() - self.began, int(time.time() * 1000), 0]])
        self.send("status", status=status, end=int(time.time() * 1000))

    def close(self, patience: float | None = None) -> bool:
        """Send everything; whether all of it arrived."""
        if patience is None:
            patience = float(os.environ.get("REPROD_PATIENCE", "60"))
        kept = self.outbox.close(patience)
        if not kept and not self.outbox.spool.exists():
            for run in (self, *(self._children or [])):
                if isinstance(run, MlflowRun):
                    shutil.rmtree(run.work / "arrays", ignore_errors=True)
                    shutil.rmtree(run.work / "tables", ignore_errors=True)
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
        raise BadInput(f"the store refuses the run: {first_line(error)}") from error
    outbox = Outbox(client, tracking_uri(), run_id)
    outbox.start()
    run = MlflowRun(config, client=client, run_id=run_id, outbox=outbox, parent=None)
    run.send("params", params=config.spelled())
    return run


def settle(client: MlflowClient, run_id: str, status: str, reason: str, outcome: str = "") -> None:
    """Give a run that nobody is at its final status, with the reason."""
    tags = {"reprod.failure": reason[:8000], "reprod.outcome": outcome or status.lower()}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    client.set_terminated(run_id, status)


def point_to(client: MlflowClient, run_id: str, resumed: str, name: str) -> None:
    """`mlflow run -P resume=...` made an empty run of its own: let it name the one that it resumed."""
    client.set_tag(run_id, "reprod.resumed", resumed)
    client.update_run(run_id, name=f"resumed {name}")


def queued(client: MlflowClient, run_id: str, job: str) -> None:
    """A run that MLflow made waits in a Slurm queue."""
    client.set_tag(run_id, "reprod.slurm_job", job)


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
        run.failure = f"{type(error).__name__}: {first_line(error)}"
        with contextlib.suppress(OSError):  # the disk may be full
            run.keep("traceback.txt", traceback.format_exc())
        run.settle("FAILED", run.failure)
        raise
    finally:
        with signals.deferred():  # a second signal does cut it short
            run.close()
