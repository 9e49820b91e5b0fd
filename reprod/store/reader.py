"""The only reader of the store: runs, arrays, curves, models.

from reprod import store
store.runs("cifar_ode")                          # a tidy frame: one row per seed, parameters and metrics as columns
record = store.Store().find(config)              # the newest finished run of a configuration
record.array("loss"), record.history("train/loss"), record.model()
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod import papers
from reprod.config import Config, from_spelled
from reprod.errors import BadInput

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowEntity
    from torch import nn


@dataclass(frozen=True)
class Record:
    """A run as the store holds it."""

    store: Store
    entity: MlflowEntity

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
    def metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        return self.entity.data.metrics

    @property
    def experiment(self) -> str:
        return self.tags.get("reprod.experiment", "")

    @property
    def digest(self) -> str:
        return self.tags.get("reprod.digest", "")

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
        """The typed parameters (a `Config` of the experiment). Raises `BadInput` for a run that reprod did not make."""
        if "reprod.config" not in self.tags:
            raise BadInput(f"run {self.id} was not made by reprod")
        return from_spelled(papers.config_class(self.experiment), json.loads(self.tags["reprod.config"]))

    @property
    def seed(self) -> int | None:
        """The seed of a run that has one; None for the parent of several."""
        return self.config.seeds[0] if len(self.config.seeds) == 1 else None

    def path(self, artifact: str) -> Path:
        """A local path of an artifact (a copy, for a remote store). Raises `FileNotFoundError`."""
        return self.store.artifact(self.entity, artifact)

    def array(self, name: str) -> np.ndarray:
        """An array, memory-mapped."""
        return np.load(self.path(f"arrays/{name}.npy"), mmap_mode="r", allow_pickle=False)

    def array_meaning(self, name: str) -> dict[str, Any]:
        """Shape, dtype, axes, unit and description of an array."""
        return json.loads(self.path(f"arrays/{name}.json").read_text())

    def history(self, metric: str) -> pd.Series:
        """Value by step. After a resume MLflow may hold a step twice: the last one written counts."""
        points = self.store.client.get_metric_history(self.id, metric)
        last = {p.step: p.value for p in sorted(points, key=lambda p: (p.step, p.timestamp))}
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

    def __init__(self, uri: str | None = None):
        from reprod.store.connection import connect, tracking_uri

        self.client = connect(uri)
        self.uri = tracking_uri()

    def get(self, run_id: str) -> Record:
        from mlflow.exceptions import MlflowException

        try:
            return Record(self, self.client.get_run(run_id))
        except MlflowException:
            raise BadInput(f"the store {self.uri} has no run {run_id}") from None

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
        """The newest finished run of this configuration."""
        found = self.search(config.experiment, extra=f"tags.`reprod.digest` = '{config.digest()}'")
        return next((record for record in found if record.status == "FINISHED"), None)

    def by_digest(self, experiment: str) -> dict[str, list[Record]]:
        """All runs of an experiment, newest first, by the digest of their configuration."""
        index = defaultdict(list)
        for record in self.search(experiment):
            index[record.digest].append(record)
        return dict(index)

    def children(self, run_id: str) -> list[Record]:
        return self.search(extra=f"tags.`mlflow.parentRunId` = '{run_id}'")

    def artifact(self, entity: MlflowEntity, path: str) -> Path:
        root = entity.info.artifact_uri or ""
        if root.startswith("file:") or ":" not in root.partition("/")[0]:
            local = self._local_root(root) / path
            if not local.exists():
                raise FileNotFoundError(f"run {entity.info.run_id} has no artifact {path}")
            return local
        return self._download(entity, path)

    def _local_root(self, root: str) -> Path:
        """MLflow stores absolute folders. After a store was moved together with its `mlruns`, they lie beside it."""
        folder = Path(root.removeprefix("file://"))
        if not folder.exists() and self.uri.startswith("sqlite:///"):
            beside = Path(self.uri.removeprefix("sqlite:///")).parent.joinpath("mlruns", *folder.parts[-3:])
            return beside if beside.exists() else folder
        return folder

    def _download(self, entity: MlflowEntity, path: str) -> Path:
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


def runs(experiment: str, *, uri: str | None = None, status: str | None = "FINISHED") -> pd.DataFrame:
    """One row per run and seed: run_id, status, parameters (typed), last metrics, start, seconds, commit.

    Parents of several seeds are left out: their children are there. `status=None` gives the unfinished ones too.
    """
    papers.known(experiment)
    rows = []
    for record in Store(uri).search(experiment):
        if record.seed is None or (status and record.status != status):
            continue
        parameters = {name: getattr(record.config, name) for name in record.config.spelled() if name != "seeds"}
        rows.append({
            "run_id": record.id, "status": record.status, "seed": record.seed, **parameters, **record.metrics,
            "start": pd.to_datetime(record.entity.info.start_time, unit="ms"), "commit": record.commit[:10],
        })  # fmt: skip
    return pd.DataFrame(rows)
