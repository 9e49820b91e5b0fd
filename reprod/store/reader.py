"""The only reader of the store: runs, arrays, curves, models.

from reprod import store
store.runs("cifar_ode")                          # a tidy frame: one row per seed, parameters and metrics as columns
record = store.Store().find(config)              # the newest finished run of a configuration
record.array("loss"), record.history("train/loss"), record.model()
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod import papers
from reprod.config import Config, Named, from_spelled
from reprod.errors import BadInput, masked
from reprod.run import Upstream

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from torch import nn

ARCHIVED_ID = "reprod.archived_id"  # the tag of a run that was restored where its id could not be had


@dataclass(frozen=True)
class Record:
    """A run as the store holds it. `entity` is MLflow's, or what an archive has in its place: `info`, `data`."""

    store: Store
    entity: Any

    @property
    def id(self) -> str:
        return self.entity.info.run_id

    @property
    def name(self) -> str:
        return self.entity.info.run_name or ""

    @property
    def status(self) -> str:
        return self.entity.info.status

    @property
    def tags(self) -> dict[str, str]:
        return self.entity.data.tags

    @property
    def params(self) -> dict[str, str]:
        return self.entity.data.params

    @property
    def start(self) -> int:
        """Milliseconds since 1970."""
        return self.entity.info.start_time

    @property
    def end(self) -> int | None:
        return self.entity.info.end_time

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric, by name: no store promises an order."""
        return dict(sorted(self.entity.data.metrics.items()))

    @property
    def experiment(self) -> str:
        return self.tags.get("reprod.experiment", "")

    @property
    def digest(self) -> str:
        """The identity of the run: of its recorded parameters, read with today's table, so that a run stays found when
        a parameter is added. Raises `BadInput` where they cannot be read."""
        return self.config.digest()

    @property
    def parent_id(self) -> str | None:
        return self.tags.get("mlflow.parentRunId")

    @property
    def failure(self) -> str:
        return self.tags.get("reprod.failure", "")

    @property
    def commit(self) -> str:
        return self.tags.get("reprod.git_commit", "")

    @property
    def seconds(self) -> float:
        """Wall time; of a seed of a batch, that of the whole batch."""
        return self.metrics.get("seconds", float("nan"))

    @cached_property
    def config(self) -> Any:
        """The typed parameters (a `Config` of the experiment). Raises `BadInput` for a run that reprod did not make,
        or whose parameters it cannot read."""
        if "reprod.config" not in self.tags:
            raise BadInput(f"run {self.id} was not made by reprod")
        return read_config(self.id, self.experiment, self.tags["reprod.config"])

    @property
    def seed(self) -> int | None:
        """The seed of a run that has one; None for the parent of several."""
        return self.config.seeds[0] if len(self.config.seeds) == 1 else None

    def path(self, artifact: str) -> Path:
        """A local path of an artifact (a copy, for a remote store). Raises `FileNotFoundError`."""
        return self.store.artifact(self.entity, artifact)

    def array(self, name: str) -> np.ndarray:
        """An array, memory-mapped. Raises `BadInput`, with the run's id and the remedy, where it is missing, damaged,
        or not what was recorded."""
        path = self._checked(f"arrays/{name}.npy")
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise BadInput(self._broken(path, f"is no array ({error})")) from error

    def array_meaning(self, name: str) -> dict[str, Any]:
        """Shape, dtype, axes, unit and description of an array."""
        return self._meaning(f"arrays/{name}.json")

    def table(self, name: str) -> pd.DataFrame:
        """A table, with the columns and types that the experiment gave. Raises `BadInput` as `array` does."""
        path, kinds = self._checked(f"tables/{name}.csv"), self._meaning(f"tables/{name}.json").get("columns", {})
        if not kinds:
            return pd.DataFrame()
        words = {column for column, kind in kinds.items() if kind in ("object", "str", "string")}
        try:
            frame = pd.read_csv(
                path, dtype={c: str if c in words else kind for c, kind in kinds.items()}, keep_default_na=False,
                na_values={c: [""] for c in kinds if c not in words}, float_precision="round_trip",
                lineterminator="\n",
            )  # fmt: skip
        except (ValueError, TypeError, OSError) as error:
            raise BadInput(self._broken(path, f"is not the table that was recorded ({error})")) from error
        return frame

    def table_text(self, name: str) -> str:
        """A table as it was written."""
        return self._checked(f"tables/{name}.csv").read_text(encoding="utf-8")

    def tables(self) -> list[str]:
        """The names of the run's tables."""
        try:
            folder = self.path("tables")
        except FileNotFoundError:
            return []
        return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.csv"))

    def _meaning(self, artifact: str) -> dict[str, Any]:
        try:
            path = self.path(artifact)
        except FileNotFoundError:
            raise BadInput(self._broken(artifact, "is missing")) from None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("no object of JSON")
            return found
        except (ValueError, OSError) as error:
            raise BadInput(self._broken(path, f"is damaged ({error})")) from error

    def _checked(self, artifact: str) -> Path:
        """The path of a file whose sha256 is the one that the run recorded beside it."""
        try:
            path = self.path(artifact)
        except FileNotFoundError:
            raise BadInput(self._broken(artifact, "is missing")) from None
        recorded = self._meaning(str(Path(artifact).with_suffix(".json"))).get("sha256", "")
        if recorded and sha256_of(path) != recorded:
            raise BadInput(self._broken(path, "is not what the run recorded (another sha256)"))
        return path

    def _broken(self, what: str | Path, how: str) -> str:
        try:
            remedy = f"`{self.config.command()}` makes such a run again, after `mlflow runs delete --run-id {self.id}`"
        except BadInput:
            remedy = f"take the run from a backup or delete it: `mlflow runs delete --run-id {self.id}`"
        return f"run {self.id} ({self.name}): {what} {how}; {remedy}"

    def history(self, metric: str) -> pd.Series:
        """Value by step. After a resume MLflow may hold a step twice: the last one written counts."""
        last = {step: value for step, _, value in sorted(self.store.points(self.id, metric), key=lambda p: p[:2])}
        return pd.Series(last, name=metric, dtype=float).rename_axis("step")

    def model(self, name: str = "model") -> nn.Module:
        """The trained model, rebuilt from its weights without any pickle."""
        from reprod.models import load_weights

        try:
            return load_weights(self.path(f"{name}/weights"))
        except FileNotFoundError:
            raise BadInput(f"run {self.id} ({self.name}) holds no model {name!r}") from None


class Store:
    """A tracking store: `Store()` is the one that `MLFLOW_TRACKING_URI` names."""

    def __init__(self, uri: str | None = None, *, client: MlflowClient | None = None):
        from reprod.store.connection import connect

        self.client = client or connect(uri)
        self.uri = self.client.tracking_uri

    def get(self, run_id: str) -> Record:
        """The run of this id, or of the only one that begins so (with 6 digits or more)."""
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):
            return Record(self, self.client.get_run(run_id))
        if re.fullmatch("[0-9a-f]{6,31}", run_id):
            begins = f"attributes.run_id LIKE '{run_id}%'"
            places = [e.experiment_id for e in self._pages(self.client.search_experiments, max_results=1000)]
            found = self.client.search_runs(places, begins, max_results=5)
            if len(found) > 1:
                ids = ", ".join(entity.info.run_id for entity in found)
                raise BadInput(f"{run_id} begins the ids of several runs: {ids}")
            if found:
                return Record(self, found[0])
        # a server chooses the ids of its runs: one that was restored there says in a tag which it had
        places = [e.experiment_id for e in self._pages(self.client.search_experiments, max_results=1000)]
        restored = f"tags.`{ARCHIVED_ID}` = '{run_id}'"
        if run_id.isalnum() and (found := self.client.search_runs(places, restored, max_results=1)):
            return Record(self, found[0])
        raise BadInput(f"the store {masked(self.uri)} has no run {run_id}")

    def points(self, run_id: str, metric: str) -> list[tuple[int, int, float]]:
        """(step, timestamp, value) of all that was logged of a metric, in no order."""
        return [(p.step, p.timestamp, p.value) for p in self.client.get_metric_history(run_id, metric)]

    def parent(self, record: Record) -> Record | None:
        """The run that this one belongs to, where it is still there: it may have been deleted."""
        try:
            found = self.get(record.parent_id) if record.parent_id else None
        except BadInput:
            return None
        return found if found is not None and found.entity.info.lifecycle_stage == "active" else None

    def search(self, experiment: str | None = None, *, extra: str = "") -> list[Record]:
        """All runs that reprod made (of one experiment), newest first, whatever MLflow experiment they lie in."""
        wanted = f"tags.`reprod.experiment` = '{experiment}'" if experiment else "tags.`reprod.experiment` LIKE '%'"
        wanted += f" AND {extra}" if extra else ""
        places = [e.experiment_id for e in self._pages(self.client.search_experiments, max_results=1000)]
        order = ["attributes.start_time DESC"]
        found = self._pages(
            self.client.search_runs, experiment_ids=places, filter_string=wanted, max_results=1000, order_by=order
        )
        return [Record(self, entity) for entity in found if "reprod.config" in entity.data.tags]

    def drawn(self, paper: str | None = None) -> list[Record]:
        """The figures that were kept in the store."""
        place = self.client.get_experiment_by_name("figures")
        if place is None or place.lifecycle_stage == "deleted":
            return []
        wanted = f"tags.`reprod.paper` = '{paper}'" if paper else "tags.`reprod.figure` LIKE '%'"
        found = self._pages(
            self.client.search_runs, experiment_ids=[place.experiment_id], filter_string=wanted, max_results=1000
        )
        return [Record(self, entity) for entity in found]

    def sweeps(self) -> list[Record]:
        """The parents of sweeps that have not ended."""
        places = [e.experiment_id for e in self._pages(self.client.search_experiments, max_results=1000)]
        wanted = "tags.`reprod.sweep` LIKE '%' AND attributes.status = 'RUNNING'"
        found = self._pages(self.client.search_runs, experiment_ids=places, filter_string=wanted, max_results=1000)
        return [Record(self, entity) for entity in found]

    @staticmethod
    def _pages(search: Any, **arguments: Any) -> Iterable[Any]:
        token = None
        while True:
            page = search(**arguments, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def find(self, config: Config) -> Record | None:
        """The newest finished run of this configuration (with one seed)."""
        same = self.by_digest(config.experiment).get(config.digest(), [])
        return next((record for record in same if record.status == "FINISHED"), None)

    def by_digest(self, experiment: str) -> dict[str, list[Record]]:
        """All runs of an experiment that can be read, newest first, by the digest of their configuration."""
        index = defaultdict(list)
        for record in self.readable(self.search(experiment)):
            index[record.digest].append(record)
        return dict(index)

    def readable(self, records: Iterable[Record]) -> Iterator[Record]:
        """Those whose parameters can be read; the others are named, once, and passed over."""
        for record in records:
            try:
                record.config  # noqa: B018
            except BadInput as error:
                _complain(str(error))
            else:
                yield record

    @cached_property
    def undelivered(self) -> dict[str, int]:
        """How many messages wait on this machine, by run: `reprod sync` delivers them."""
        from reprod.store.outbox import undelivered

        return undelivered(self.uri)

    def children(self, run_id: str) -> list[Record]:
        return self.search(extra=f"tags.`mlflow.parentRunId` = '{run_id}'")

    def local_root(self, entity: Any) -> Path | None:
        """The folder of a run's files, where they lie on this machine."""
        from reprod.store.connection import artifact_folder

        folder = artifact_folder(entity.info.artifact_uri or "")
        return None if folder is None else self._local_root(folder)

    def artifact(self, entity: Any, path: str) -> Path:
        root = self.local_root(entity)
        if root is None:
            return self._download(entity, path)
        local = root / path
        if not local.exists():
            raise FileNotFoundError(f"run {entity.info.run_id} has no artifact {path}")
        return local

    def _local_root(self, folder: Path) -> Path:
        """MLflow stores absolute folders. After a store was moved together with its `mlruns`, they lie beside it."""
        from reprod.store.connection import database

        if not folder.exists() and (file := database(self.uri)) is not None:
            beside = file.parent.joinpath("mlruns", *folder.parts[-3:])
            return beside if beside.exists() else folder
        return folder

    def _download(self, entity: Any, path: str) -> Path:
        from reprod.project import cache_dir

        kept = cache_dir() / "artifacts" / entity.info.run_id / path
        if kept.exists() and entity.info.status == "FINISHED":
            return kept
        partial = kept.parent / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            fetched = Path(self.client.download_artifacts(entity.info.run_id, path, str(partial)))
        except Exception as error:
            raise FileNotFoundError(f"run {entity.info.run_id} has no artifact {path}") from error
        if kept.is_dir():
            shutil.rmtree(kept)
        fetched.replace(kept)
        shutil.rmtree(partial, ignore_errors=True)
        return kept


def seed_state(config: Config, seed: int, runs: Mapping[str, list[Record]]) -> tuple[str, Record | None]:
    """What the store knows of one seed, with the run that says so. `runs` is `Store.by_digest` of the experiment.

    `done`: it is finished. `running`: somebody is at it, or its last messages wait for `reprod sync`. `failed`: it
    diverged, and would again. `missing`: none of these; it may have a run all the same, one that was stopped or died,
    which can be resumed.
    """
    from reprod.store.liveness import alive

    same = runs.get(config.for_seed(seed).digest(), [])
    states = {
        "done": lambda r: r.status == "FINISHED",
        "running": lambda r: r.status == "RUNNING" and (alive(r.entity) or r.id in r.store.undelivered),
        "failed": lambda r: r.tags.get("reprod.outcome") == "diverged",
    }
    for state, holds in states.items():
        if found := next((record for record in same if holds(record)), None):
            return state, found
    return "missing", same[0] if same else None


def lookup(client: MlflowClient, wanted: Config | Named) -> Upstream | None:
    """The finished run that another builds on, if the store has it. Raises `BadInput` for a named one that is not there
    or is not what is needed."""
    store = Store(client=client)
    if isinstance(wanted, Named):
        found: Record | None = store.get(wanted.run_id)
        assert found is not None
        if len(wanted.run_id) < len(found.id):  # the parameter is part of the run's identity: one spelling
            raise BadInput(f"{wanted.parameter}={wanted.run_id}: give the whole id, {found.id}")
        if found.experiment not in wanted.experiments or found.status != "FINISHED" or found.seed is None:
            raise BadInput(
                f"{wanted.parameter}={wanted.run_id}: that is no finished {' or '.join(wanted.experiments)} of one seed"
            )
    else:
        found = store.find(wanted)
    if found is None:
        return None
    return Upstream(found.config, lambda name: np.asarray(found.array(name)), found.table, f"run {found.id}")


@cache
def _complain(sentence: str) -> None:
    print(f"reprod: {sentence}; passed over", file=sys.stderr)


@lru_cache(maxsize=100_000)
def read_config(run_id: str, experiment: str, text: str) -> Config:
    try:
        return from_spelled(papers.config_class(experiment), json.loads(text))
    except (BadInput, ValueError, AttributeError, TypeError) as error:
        raise BadInput(f"run {run_id} has parameters that cannot be read ({error})") from None


_SUMS: dict[tuple[str, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """Computed once for each state of a file."""
    from reprod.store.files import sha256

    found = path.stat()
    key = str(path), found.st_mtime_ns, found.st_size
    if key not in _SUMS:
        _SUMS[key] = sha256(path)
    return _SUMS[key]


def runs(
    experiment: str, *, scale: str | None = None, uri: str | None = None, status: str | None = "FINISHED"
) -> pd.DataFrame:
    """One row per run and seed: run_id, status, parameters (typed), last metrics, start, seconds, commit.

    Parents of several seeds are left out: their children are there. `status=None` gives the unfinished ones too.
    Without a `scale` there are rows of all of them, which is said where there are several.
    """
    papers.known(experiment)
    rows = []
    store = Store(uri)
    for record in store.readable(store.search(experiment)):
        if record.seed is None or (status and record.status != status) or scale not in (None, record.config.scale):
            continue
        parameters = {name: getattr(record.config, name) for name in record.config.spelled() if name != "seeds"}
        rows.append({
            "run_id": record.id, "status": record.status, "seed": record.seed, **parameters, **record.metrics,
            "start": pd.to_datetime(record.entity.info.start_time, unit="ms"), "commit": record.commit[:10],
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    if len(frame) and len(found := sorted(set(frame["scale"]))) > 1:
        print(f"reprod: these are runs of several scales ({', '.join(found)}): scale= chooses one", file=sys.stderr)
    return frame
