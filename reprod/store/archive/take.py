"""Put runs of a store into an archive."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reprod.errors import BadInput
from reprod.store.archive import format
from reprod.store.archive.format import Archive
from reprod.store.reader import Record, Store

NEVER = ("checkpoints/",), (".pkl", ".pickle", ".pth")  # beginnings, endings
LONGEST_TEXT = 1024  # bytes of a text that stands in the index itself


class Watched(Store):
    """A store that remembers which files of its runs were read."""

    def __init__(self, uri: str | None = None):
        super().__init__(uri)
        self.read: dict[str, set[str]] = {}

    def artifact(self, entity: Any, path: str) -> Path:
        self.read.setdefault(entity.info.run_id, set()).add(path)
        return super().artifact(entity, path)

    def logged(self, figure: str, scale: str) -> list[Record]:
        """The runs under which the drawing of a figure is kept."""
        place = self.client.get_experiment_by_name("figures")
        if place is None:
            return []
        same = f"tags.`reprod.figure` = '{figure}' AND tags.`reprod.scale` = '{scale}'"
        return [Record(self, entity) for entity in self.client.search_runs([place.experiment_id], same)]


@dataclass
class Shown:
    """A figure, its runs, what it and its claims read of them, and the run under which its drawing is logged."""

    figure: str
    scale: str
    records: list[Record]
    read: Mapping[str, set[str]]
    logged: Record | None = None


@dataclass
class Draft:
    """An archive that is being put together: what is there, and what comes to it."""

    paper: str
    figures: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: dict[str, Callable[[], tuple[str, bytes]]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)  # packed bytes, by sha256
    machines: dict[str, float] = field(default_factory=dict)
    others: int = 0  # bytes of the other archives in the folder

    @classmethod
    def of(cls, paper: str, path: Path) -> Draft:
        others = sum(each.stat().st_size for each in path.parent.glob("*.zip") if each != path)
        if not path.exists():
            return cls(paper, others=others)
        there = Archive(path)
        if there.paper != paper:
            raise there.bad(f"an archive of {there.paper}, not of {paper}")
        figures = {(each["figure"], each["scale"]): list(each["runs"]) for each in there.figures}
        members = there.packed()
        sizes = {digest: there.size(digest) for digest in members}
        return cls(paper, figures, dict(there.runs), members, sizes, dict(there.index["machines"]), others)

    def add(self, shown: Shown) -> list[tuple[str, str]]:
        """Take a figure's runs, with their parents. Figures that now lack a run which was replaced by a newer one of
        the same parameters are returned: they have to be added again. Raises `BadInput` and changes nothing for runs
        of unknown origin."""
        wanted = _with_parents(shown.records)
        for record in wanted:
            check_origin(record)
        runs, sizes, members = dict(self.runs), dict(self.sizes), dict(self.members)
        for record in wanted + ([shown.logged] if shown.logged else []):
            there = runs.get(record.id)
            if there is not None and shown.logged is record:
                there = None  # a figure may have been drawn again
            runs[record.id] = _entry(record, shown.read.get(record.id, set()), there, members, sizes)
        stale = self._replaced(wanted, runs)
        key = shown.figure, shown.scale
        ids = [record.id for record in wanted] + ([shown.logged.id] if shown.logged else [])
        figures = {**self.figures, key: sorted(ids)}
        again = [other for other, those in figures.items() if other != key and stale & set(those)]
        for other in again:
            del figures[other]
        kept = {run_id for those in figures.values() for run_id in those}
        runs = {run_id: run for run_id, run in runs.items() if run_id in kept}
        needed = format.needed(runs)
        total = sum(sizes[digest] for digest in needed)
        room = min(format.BUDGET, format.TOGETHER - self.others)
        if total > room:
            raise BadInput(
                f"{shown.figure} at scale {shown.scale} does not fit: the archive of {self.paper} would have "
                f"{total / 1e6:.1f} MB of {room / 1e6:.0f}; the largest: {_largest(runs, sizes)}"
            )
        self.figures, self.runs = figures, runs
        self.members = {digest: members[digest] for digest in needed}
        self.sizes = {digest: sizes[digest] for digest in needed}
        return again

    def _replaced(self, new: Sequence[Record], runs: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Archived runs of the same parameters as new ones."""
        fresh = {record.id for record in new}
        same = {(record.experiment, record.digest) for record in new if "reprod.config" in record.tags}
        return {
            run["id"] for run in runs.values()
            if run["id"] not in fresh and "reprod.config" in run["tags"]
            and (run["tags"].get("reprod.experiment"), _digest(run)) in same
        }  # fmt: skip

    def write(self, path: Path) -> bool:
        """Whether the file changed."""
        from reprod.store.archive import crate

        index = {
            "format": format.FORMAT, "paper": self.paper, "rule": format.RULE, "machines": self.machines,
            "figures": [{"figure": f, "scale": s, "runs": ids} for (f, s), ids in sorted(self.figures.items())],
            "runs": [self.runs[run_id] for run_id in sorted(self.runs)],
        }  # fmt: skip
        before = path.read_bytes() if path.exists() else b""
        named = {digest: (member()[0], self.sizes[digest]) for digest, member in self.members.items()}
        format.write(path, index, self.members, crate.describe(index, named))
        return path.read_bytes() != before


def check_origin(record: Record) -> None:
    """Raises `BadInput` where nobody could make the run again, because its code is not known."""
    if "reprod.config" not in record.tags:
        return  # the parent of a sweep computed nothing
    about = f"run {record.id} ({record.name}) is no run of record"
    if not re.fullmatch("[0-9a-f]{40}", record.commit):
        raise BadInput(f"{about}: the commit that made it is {record.commit or 'unknown'}")
    if (dirty := record.tags.get("reprod.git_dirty", "unknown")) != "false":
        state = "with uncommitted changes" if dirty == "true" else f"in a checkout of which nobody knows ({dirty})"
        raise BadInput(f"{about}: it was made {state}; commit, and make it again")


def _digest(run: Mapping[str, Any]) -> str:
    from reprod.store.reader import read_config

    try:
        return read_config(run["id"], run["tags"]["reprod.experiment"], run["tags"]["reprod.config"]).digest()
    except BadInput:
        return ""


def _with_parents(records: Iterable[Record]) -> list[Record]:
    known = {record.id: record for record in records}
    queue = list(known.values())
    while queue:
        record = queue.pop()
        if record.parent_id and record.parent_id not in known:
            known[record.parent_id] = record.store.get(record.parent_id)
            queue.append(known[record.parent_id])
    return [known[run_id] for run_id in sorted(known)]


def _entry(
    record: Record,
    read: set[str],
    there: Mapping[str, Any] | None,
    members: dict[str, Callable[[], tuple[str, bytes]]],
    sizes: dict[str, int],
) -> dict[str, Any]:
    """A run as the index has it. What an archive holds of a run stays as it is; files may come to it."""
    files = dict(there["files"]) if there else {}
    left_out = {}
    for name in _names(record):
        if name in files or name.startswith(NEVER[0]) or name.endswith(NEVER[1]):
            continue
        path = record.path(name)
        if _is_read(name, read) or path.stat().st_size <= format.LARGEST:
            files[name] = _taken(name, path.read_bytes(), members, sizes)
        else:
            left_out[name] = _absent(record, name, path)
    if there:
        return {**there, "files": files, "left_out": {n: f for n, f in there["left_out"].items() if n not in files}}
    info = record.entity.info
    return {
        "id": record.id, "name": record.name, "status": record.status, "start": record.start, "end": record.end,
        "place": _place(record), "params": dict(record.params),
        "tags": {key: value for key, value in record.tags.items() if key != "reprod.figures"},
        "metrics": {name: format.number(value) for name, value in sorted(record.metrics.items())},
        "history": _history(record, members, sizes), "datasets": _datasets(record), "user": info.user_id or "",
        "files": files, "left_out": left_out, "command": _command(record),
    }  # fmt: skip


def _command(record: Record) -> str:
    try:
        return record.config.command()
    except BadInput:
        return ""


def _place(record: Record) -> str:
    return record.store.client.get_experiment(record.entity.info.experiment_id).name


def _names(record: Record) -> Iterator[str]:
    """The files of a run."""
    root = record.store.local_root(record.entity)
    if root is not None:
        yield from sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        return
    queue = [""]
    while queue:
        for found in record.store.client.list_artifacts(record.id, queue.pop() or None):
            if found.is_dir and not f"{found.path}/".startswith(NEVER[0]):
                queue.append(found.path)
            elif not found.is_dir:
                yield found.path


def _is_read(name: str, read: set[str]) -> bool:
    return any(name == each or each == "" or name.startswith(f"{each}/") for each in read)


def _taken(
    name: str, content: bytes, members: dict[str, Callable[[], tuple[str, bytes]]], sizes: dict[str, int]
) -> dict[str, Any]:
    if len(content) <= LONGEST_TEXT and not name.endswith((".npy", ".pt")):
        try:
            return {"text": content.decode()}
        except UnicodeDecodeError:
            pass
    digest = format.digest_of(content)
    if digest not in members:
        packed = format.pack(name, content)
        members[digest], sizes[digest] = (lambda: packed), len(packed[1])
    return {"sha256": digest, "size": len(content)}


def _absent(record: Record, name: str, path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    about: dict[str, Any] = {"sha256": format.digest_of(content), "size": len(content)}
    if name.endswith(".npy"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        about |= {"shape": list(array.shape), "dtype": str(array.dtype)}
    return about


def _history(
    record: Record, members: dict[str, Callable[[], tuple[str, bytes]]], sizes: dict[str, int]
) -> dict[str, Any] | None:
    names = sorted(record.metrics)
    rows = [(i, *point) for i, name in enumerate(names) for point in sorted(record.store.points(record.id, name))]
    if not rows:
        return None
    return {"metrics": names, **_taken("metrics.npy", format.as_npy(np.array(rows, format.POINT)), members, sizes)}


def _datasets(record: Record) -> list[dict[str, Any]]:
    inputs = record.entity.inputs.dataset_inputs if record.entity.inputs else []
    described = [
        {
            "name": each.dataset.name, "digest": each.dataset.digest, "source_type": each.dataset.source_type,
            "source": each.dataset.source, "schema": each.dataset.schema, "profile": each.dataset.profile,
            "tags": {tag.key: tag.value for tag in each.tags},
        }
        for each in inputs
    ]  # fmt: skip
    return sorted(described, key=lambda each: json.dumps(each, sort_keys=True))


def _largest(runs: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, int]) -> str:
    every = {
        file["sha256"]: f"{name} of {run['name']}"
        for run in runs.values() for name, file in run["files"].items() if "sha256" in file
    }  # fmt: skip
    top = sorted(every, key=lambda digest: -sizes[digest])[:3]
    return ", ".join(f"{every[digest]} ({sizes[digest] / 1e6:.1f} MB)" for digest in top)
