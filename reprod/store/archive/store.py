"""Read runs from archives as from a store: nothing is restored, nothing needs MLflow.

from reprod.store.archive.store import ArchiveStore
ArchiveStore().find(config).array("loss")            # the archives of this checkout

A file that somebody reads is unpacked into the cache, once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from reprod import papers, project
from reprod.errors import BadInput, LeftOut
from reprod.store.archive.format import Archive
from reprod.store.files import write_whole
from reprod.store.reader import Record, Store, sha256_of


def folder() -> Path:
    """Where the archives lie: `$REPROD_ARCHIVE`, else `archive` in the checkout."""
    given = os.environ.get("REPROD_ARCHIVE")
    return Path(given) if given else project.need_root() / "archive"


def archives(where: Path | None = None) -> dict[str, Path]:
    """The archive of every paper that has one; none outside a checkout."""
    if where is None and not os.environ.get("REPROD_ARCHIVE") and project.root() is None:
        return {}
    where = folder() if where is None else where
    if where.is_file():
        return {Archive(where).paper: where}
    return {path.stem: path for path in sorted(where.glob("*.zip"))}


@dataclass(frozen=True)
class Info:
    """What MLflow's `RunInfo` is to a record."""

    run_id: str
    run_name: str
    status: str
    start_time: int
    end_time: int | None
    experiment_id: str
    lifecycle_stage: str = "active"


@dataclass(frozen=True)
class Data:
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Held:
    """A run in an archive, in the place of MLflow's entity."""

    archive: Archive = field(repr=False)
    run: Mapping[str, Any] = field(repr=False)

    @cached_property
    def info(self) -> Info:
        run = self.run
        return Info(run["id"], run["name"], run["status"], run["start"], run["end"], run["place"])

    @cached_property
    def data(self) -> Data:
        shown = self.archive.shown.get(self.run["id"])
        tags = {**self.run["tags"], **({"reprod.figures": ", ".join(shown)} if shown else {})}
        metrics = {name: float(value) for name, value in self.run["metrics"].items()}
        return Data(tags, self.run["params"], metrics)


class ArchiveStore(Store):
    """The runs of archives: of a folder (default: that of the checkout), or of one file."""

    def __init__(self, where: Path | None = None):
        self.where = folder() if where is None else where
        self.uri = f"archive:{self.where}"
        self._paths = archives(self.where)
        self._opened: dict[str, Archive] = {}
        if not self._paths:
            raise BadInput(f"there is no archive in {self.where}: `reprod archive add --paper NAME` makes one")

    @property
    def client(self) -> Any:  # type: ignore[override]
        raise BadInput(f"{self.uri} is an archive: it can be read, but it is no store to write to")

    def archive(self, paper: str) -> Archive | None:
        if paper not in self._opened and paper in self._paths:
            self._opened[paper] = Archive(self._paths[paper])
        return self._opened.get(paper)

    @property
    def papers(self) -> list[str]:
        return list(self._paths)

    def machines(self, paper: str) -> dict[str, float]:
        """By processor: `reprod.machine.calibration` there."""
        archive = self.archive(paper)
        return archive.index["machines"] if archive else {}

    @property
    def all(self) -> Iterator[Archive]:
        for paper in self._paths:
            archive = self.archive(paper)
            assert archive is not None
            yield archive

    def get(self, run_id: str) -> Record:
        opened = list(self._opened.values())  # those first: opening another one takes a moment
        for archive in chain(opened, (each for each in self.all if each not in opened)):
            if run_id in archive.runs:
                return Record(self, Held(archive, archive.runs[run_id]))
        raise BadInput(f"the archive {self.where} has no run {run_id}")

    def points(self, run_id: str, metric: str) -> list[tuple[int, int, float]]:
        held = self.get(run_id).entity
        names = held.run["history"]["metrics"] if held.run["history"] else []
        if metric not in names:
            return []
        points = _history(held.archive, run_id)
        mine = points[points["metric"] == names.index(metric)]
        return list(zip(mine["step"].tolist(), mine["time"].tolist(), mine["value"].tolist(), strict=True))

    def search(self, experiment: str | None = None, *, extra: str = "") -> list[Record]:
        if extra:
            raise BadInput(f"{self.uri} is an archive: it has no filters, restore it into a store ({extra})")
        if experiment is None:
            opened = list(self.all)
        else:
            archive = self.archive(papers.experiments()[papers.known(experiment)].name)
            opened = [archive] if archive else []
        found = [
            Record(self, Held(archive, run))
            for archive in opened for run in archive.runs.values()
            if "reprod.config" in run["tags"] and experiment in (None, run["tags"].get("reprod.experiment"))
        ]  # fmt: skip
        return sorted(found, key=lambda record: (record.start, record.id), reverse=True)

    def with_parents(self, run_id: str) -> list[str]:
        """A run and those that it belongs to."""
        parent = self.get(run_id).parent_id
        return [run_id, *(self.with_parents(parent) if parent else [])]

    def parent(self, record: Record) -> Record | None:
        return self.get(record.parent_id) if record.parent_id else None

    @property
    def undelivered(self) -> dict[str, int]:
        return {}

    def children(self, run_id: str) -> list[Record]:
        return [record for record in self.search() if record.parent_id == run_id]

    def artifact(self, entity: Any, path: str) -> Path:
        run, archive = entity.run, entity.archive
        names = [name for name in run["files"] if not path or name == path or name.startswith(f"{path}/")]
        if not names:
            if path in run["left_out"]:
                left = run["left_out"][path]
                about = " x ".join(map(str, left.get("shape", ()))) or f"{left['size']:,} bytes"
                raise LeftOut(
                    left["sha256"],
                    f"run {run['id']} ({run['name']}): {path} ({about}) is left out of the archive for its size; "
                    f"`{run['command']}` makes it again",
                )
            raise FileNotFoundError(f"run {run['id']} has no artifact {path} in the archive")
        place = project.cache_dir() / "archive" / run["id"]
        for name in names:
            _unpacked(archive, run["files"][name], place / name)
        return place / path if path else place


@lru_cache(maxsize=64)
def _history(archive: Archive, run_id: str) -> Any:
    """A run's metrics, unpacked once for all of them."""
    return archive.history(archive.runs[run_id])


def _unpacked(archive: Archive, file: Mapping[str, Any], path: Path) -> None:
    """A file in the cache; one that is there is taken if it is the same."""
    if path.is_file():
        if "text" in file and path.read_bytes() == file["text"].encode():
            return
        if "text" not in file and sha256_of(path) == file["sha256"]:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = archive.content(file)
    write_whole(path, lambda opened: opened.write(content))
