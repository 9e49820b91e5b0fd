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
from reprod.errors import BadInput, Diverged, Interrupted, masked
from reprod.run import Run, as_array, as_table, as_text, checked_name
from reprod.store import checkpoints, reader
from reprod.store.connection import (
    MlflowClient,
    MlflowException,
    cache_dir,
    connect,
    experiment_id,
    first_line,
    place,
    tracking_uri,
)
from reprod.store.files import sha256
from reprod.store.liveness import alive, signature
from reprod.store.outbox import Outbox
from reprod.store.provenance import allocations, device_name, device_since, provenance
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
        self.device = ""  # as the experiment says; else what was seen to compute
        self._allocations = allocations()
        self._sources: set[Path] = set()
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
        path = self.work / "arrays" / f"{checked_name(name)}.npy"
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
        self._keep_described(path, about_it)

    def table(self, name: str, frame: pd.DataFrame, *, units: Mapping[str, str] | None = None, about: str = "") -> None:
        table = as_table(frame, units, about)
        path = self.work / "tables" / f"{checked_name(name)}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_text(table.frame).encode())
        kinds = {column: str(kind) for column, kind in table.frame.dtypes.items()}
        about_it = {
            "rows": len(table.frame), "columns": kinds, "units": dict(table.units), "about": about,
            "sha256": sha256(path),
        }  # fmt: skip
        self._keep_described(path, about_it)

    def _keep_described(self, path: Path, about_it: Mapping[str, Any]) -> None:
        """A file of the work folder, with what is known of it beside it."""
        described = path.with_suffix(".json")
        described.write_text(json.dumps(about_it, indent=1))
        for each in (path, described):
            self.send("artifact", path=str(each), to=str(path.parent.relative_to(self.work)))

    def dataset(self, name: str, *, split: str, source: str, digest: str, size: int, shape: Sequence[int] = ()) -> None:
        profile = json.dumps({"size": size, "shape": list(shape), "sha256": digest})
        described = {
            "name": name, "digest": digest[:16], "source_type": "local", "source": json.dumps({"uri": source}),
            "profile": profile,
        }  # fmt: skip
        self.send("dataset", dataset=described, context=split)
        self.send("tags", tags={f"reprod.data.{name}.{split}": digest})

    def note(self, name: str, text: str) -> None:
        if name == "device":
            self.device = text = device_name(text)
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

    def keep(self, name: str, content: str | bytes) -> None:
        """A file under `provenance/`; nothing where there is no content."""
        if content:
            path = self.work / "provenance" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            self.send("artifact", path=str(path), to=str(Path("provenance", name).parent))

    def keep_sources(self) -> None:
        """What differs from the commit, and the imported sources that the commit does not hold."""
        new = [path for path in project.untracked_sources() if path not in self._sources]
        self._sources.update(new)
        for path in new:
            with contextlib.suppress(OSError):  # it was removed while we run
                self.keep(f"untracked/{path.as_posix()}", (project.need_root() / path).read_bytes())
        if new:
            self.send("tags", tags={"reprod.git_dirty": "true"})

    # seeds

    def _child(self, config: Config) -> MlflowRun:
        for found in self._recorded_children():
            if found.data.tags.get("reprod.digest") == config.digest():
                child = self._of(config, found.info.run_id)
                child.latest = _metrics(found)
                child._done = child._settled = found.info.status == "FINISHED"
                if not child._done:
                    self.outbox.living.add(child.run_id)
                    if found.info.status != "RUNNING":
                        self.client.update_run(child.run_id, status="RUNNING")
                return child
        info = self.client.get_run(self.run_id).info
        tags = {**provenance(config), MLFLOW_PARENT_RUN_ID: self.run_id}
        created = self.client.create_run(info.experiment_id, tags=tags, run_name=config.title())
        child = self._of(config, created.info.run_id)
        self.outbox.living.add(child.run_id)
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

    def remember(self, message: Mapping[str, Any]) -> None:
        """Metrics that had not been sent when the checkpoint was written belong to the summary, too."""
        for run in (self, *(self._children or [])):
            if isinstance(run, MlflowRun) and run.run_id == message["run"]:
                run.latest |= {name: value for name, value, *_ in message["points"]}

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
            for name, value in child.latest.items():
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
        self.outbox.living.discard(self.run_id)
        for child in self._children or []:
            if isinstance(child, MlflowRun):
                child.settle(status, reason)
        outcome = "diverged" if self.diverged else status.lower()
        device = self.device or (self.parent.device if self.parent else "") or device_since(self._allocations)
        tags = {"reprod.outcome": outcome, "reprod.failure": masked(reason)[:8000], "reprod.device": device}
        self.send("tags", tags=tags)
        self.send("metrics", points=[["seconds", time.monotonic() - self.began, int(time.time() * 1000), 0]])
        self.send("status", status=status, end=int(time.time() * 1000))

    def close(self, patience: float | None = None) -> bool:
        """Send everything; whether all of it arrived."""
        if patience is None:
            patience = project.seconds("REPROD_PATIENCE", 60.0)
        kept = self.outbox.close(patience)
        if not kept and not self.outbox.spool.exists():
            for run in (self, *(self._children or [])):
                if isinstance(run, MlflowRun):
                    shutil.rmtree(run.work / "arrays", ignore_errors=True)
                    shutil.rmtree(run.work / "tables", ignore_errors=True)
                    if run._settled and run.failure is None:
                        shutil.rmtree(run.work, ignore_errors=True)
        return not kept


def _metrics(found: Any) -> dict[str, float]:
    """What a run had logged before it was interrupted."""
    return {name: value for name, value in found.data.metrics.items() if name != "seconds"}


def claim(client: MlflowClient, run_id: str, experiment: str) -> None:
    """See that a run may become one of `experiment`: `mlflow run` made it for this entry point, and nobody has taken
    it. Raises `BadInput`: what is finished, or another's, is never overwritten."""
    advice = "unset MLFLOW_RUN_ID to make a run of its own"
    try:
        found = client.get_run(run_id)
    except MlflowException:
        raise BadInput(f"MLFLOW_RUN_ID={run_id}: the store has no such run; {advice}") from None
    tags = found.data.tags
    made_for = tags.get("mlflow.project.entryPoint", "") if tags.get("mlflow.source.type") == "PROJECT" else ""
    if "reprod.config" in tags or found.info.status not in ("RUNNING", "SCHEDULED"):
        raise BadInput(f"MLFLOW_RUN_ID={run_id}: that run is {found.info.status} and not ours to overwrite; {advice}")
    if made_for != experiment:
        raise BadInput(f"MLFLOW_RUN_ID={run_id}: `mlflow run` did not make that run for {experiment}; {advice}")


def open_run(
    config: Config, *, resume: str | None = None, adopt: str | None = None, parent_id: str | None = None, note: str = ""
) -> MlflowRun:
    """Make a run for `config`; or continue the run `resume`; or take `adopt`, which `mlflow run` made for us. `note` is
    a person's comment."""
    client = connect()
    if adopt:
        claim(client, adopt, config.experiment)
    tags = provenance(config)
    if parent_id:
        tags[MLFLOW_PARENT_RUN_ID] = parent_id
    note = note or (client.get_run(resume).data.tags.get("reprod.note", "") if resume else "")
    if note:
        tags |= {"reprod.note": note, "mlflow.note.content": f"{note}\n\n{tags['mlflow.note.content']}"}
    before: dict[str, float] = {}
    try:
        if resume or adopt:
            run_id = resume or adopt or ""
            found = client.get_run(run_id)
            if found.info.status == "FINISHED":
                raise BadInput(f"run {run_id} is finished: it is not written to any more")
            before = _metrics(found)
            client.update_run(run_id, status="RUNNING", name=config.title())
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        else:
            where = place(client, config.experiment)
            run_id = client.create_run(where, tags=tags, run_name=config.title()).info.run_id
    except MlflowException as error:
        raise BadInput(f"the store refuses the run: {first_line(error)}") from error
    outbox = Outbox(client, tracking_uri(), run_id)
    outbox.start()
    run = MlflowRun(config, client=client, run_id=run_id, outbox=outbox, parent=None)
    run.latest = before
    run.send("params", params=config.spelled())
    return run


def settle(client: MlflowClient, run_id: str, status: str, reason: str, outcome: str = "") -> None:
    """Give a run that nobody is at its final status, with the reason."""
    tags = {"reprod.failure": masked(reason)[:8000], "reprod.outcome": outcome or status.lower()}
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
def sweep(experiment: str, title: str, identity: str, note: str, reused: Sequence[reader.Record] = ()) -> Iterator[str]:
    """The parent run of a sweep: yields its id. The same sweep, unfinished, is taken up again. The finished
    runs that it reuses stand under it, too, unless they have a parent already; its description names them all."""
    client = connect()
    where = place(client, experiment)
    found = client.search_runs([where], f"tags.`reprod.sweep` = '{identity}' AND attributes.status != 'FINISHED'")
    same = [run for run in found if run.info.status != "RUNNING" or not alive(run)]
    links = [f"[{r.name}](#/experiments/{r.entity.info.experiment_id}/runs/{r.id})" for r in reused]
    note = "\n\n".join([note, *([f"There before: {', '.join(links)}"[:7000]] if links else [])])
    tags = {"reprod.sweep": identity, "mlflow.note.content": note, **signature()}
    run_id = same[0].info.run_id if same else client.create_run(where, tags=tags, run_name=title).info.run_id
    client.update_run(run_id, status="RUNNING")
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    for record in reused:
        parent = record.store.parent(record)
        whole = parent if parent is not None and "reprod.config" in parent.tags else record  # all seeds together
        if whole.parent_id is None:
            client.set_tag(whole.id, MLFLOW_PARENT_RUN_ID, run_id)
    life = Outbox(client, tracking_uri(), run_id)
    life.start()
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
        life.close(5)
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
        signals.raise_pending()
        run.keep("uncommitted.diff", project.git_diff())
        run.keep_sources()
        yield run
        with signals.deferred():
            run.keep_sources()
            run.finish()
    except (Interrupted, KeyboardInterrupt) as error:
        advice = f"`reprod resume {run.run_id}` continues it"
        run.settle("KILLED", f"{error or 'stopped by Ctrl-C'}; {advice}")
        if isinstance(error, Interrupted):
            error.advice = f"run {run.run_id} is KILLED, {advice}"
        raise
    except (Diverged, BadInput) as error:
        run.failure, run.diverged = str(error), isinstance(error, Diverged)
        run.settle("FAILED", str(error))
        raise
    except BaseException as error:
        run.failure = f"{type(error).__name__}: {first_line(error)}"
        with contextlib.suppress(OSError):  # the disk may be full
            run.keep("traceback.txt", masked(traceback.format_exc()))
        run.settle("FAILED", run.failure)
        raise
    finally:
        with signals.deferred():  # a second signal does cut it short
            run.close()
