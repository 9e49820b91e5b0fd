"""`reprod archive add`: a figure's runs, with all that it and its claims read of them, go into the archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reprod import papers
from reprod.errors import BadInput
from reprod.figures.figure import Figure, draw, figures, gather, largest_scale, needs
from reprod.figures.report import date, duration, machine, total_seconds
from reprod.machine import calibration
from reprod.store import Record
from reprod.store.archive.store import ArchiveStore
from reprod.store.archive.take import Draft, Shown, Watched
from reprod.store.files import sha256
from reprod.store.provenance import cpu


def add(chosen: Sequence[Figure], scale: str | None, store: Watched, folder: Path) -> Iterator[str]:
    """Add figures of which the store has all runs at a scale (default: the largest such). Says, in a sentence each,
    what was added, and what was not and why; a sentence of the latter begins with `not added`."""
    index: dict = {}
    for paper in dict.fromkeys(each.paper for each in chosen):
        path = folder / f"{paper}.zip"
        draft = Draft.of(paper, path)
        queue = [(each, scale or largest_scale(each, store, index)) for each in chosen if each.paper == paper]
        of_paper = {each.id: each for each in figures(paper)}
        while queue:
            figure, at = queue.pop(0)
            try:
                found = shown(figure, at, store, index)
                again = draft.add(found)
            except BadInput as error:
                reason = str(error).partition("; these commands make them")[0].splitlines()[0]
                yield f"not added: {figure.id} at scale {at}: {reason.removeprefix(f'{figure.id} at scale {at} ')}"
                continue
            yield f"{figure.id} at scale {found.scale}: {len(found.records)} runs"
            # these used a run that has just been replaced by a newer one of the same parameters
            renewed = [(of_paper[other], its_scale) for other, its_scale in again if other in of_paper]
            queue += [each for each in renewed if each not in queue]
        if draft.figures:
            if cpu() in {run["tags"].get("reprod.cpu") for run in draft.runs.values()}:
                draft.machines.setdefault(cpu(), calibration())
            changed = draft.write(path)
            sums = {each.name: sha256(each) for each in sorted(folder.glob("*.zip"))}
            (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
            size = path.stat().st_size / 1e6
            yield f"{path}: {len(draft.runs)} runs, {size:.1f} MB{'' if changed else ', as it was'}"


def shown(figure: Figure, scale: str, store: Watched, index: dict) -> Shown:
    """Draw a figure and judge its claims, and see what they read. Raises `BadInput` where runs are missing."""
    import matplotlib.pyplot as plt

    runs = gather(figure, scale, store, index)
    store.read = {}
    drawing = draw(figure, runs)
    figure.findings(runs)
    plt.close(drawing.figure)
    read = {run_id: set(paths) for run_id, paths in store.read.items()}
    failed = needs(figure.runs(scale), store, index).failed
    records = list({record.id: record for record in [*runs.records, *failed]}.values())
    return Shown(figure.id, scale if len(runs) else "theory", records, read, logged(figure, scale, runs.ids, store))


def logged(figure: Figure, scale: str, ids: Sequence[str], store: Watched) -> Record | None:
    """The run under which `reproduce` or `figures --log` kept the drawing of just these runs."""
    for record in store.logged(figure.id, scale if ids else "theory"):
        try:
            head = record.path(f"{figure.id}-{scale}.csv" if ids else f"{figure.id}.csv").read_text().splitlines()
        except FileNotFoundError:
            continue
        if f"# runs: {' '.join(ids) or 'none'}" in head:
            return record
    return None


def _held(store: ArchiveStore, paper: str | None) -> list[str]:
    if paper is not None and papers.known_paper(paper).name not in store.papers:
        raise BadInput(f"there is no archive of {paper}; there are: {', '.join(store.papers)}")
    return list(store.papers) if paper is None else [paper]


def as_data(store: ArchiveStore, paper: str | None) -> list[dict[str, Any]]:
    """What `listing` says, for a program: a dict for each archive."""
    return [
        {
            "paper": name, "bytes": archive.path.stat().st_size, "sha256": archive.sha256,
            "left_out": sum(len(run["left_out"]) for run in archive.runs.values()),
            "runs": list(archive.runs), "figures": list(archive.figures),
        }
        for name in _held(store, paper)
        if (archive := store.archive(name)) is not None
    ]  # fmt: skip


def listing(store: ArchiveStore, paper: str | None, runs: bool) -> Iterator[str]:
    """What the archives hold: for every paper its figures by scale, and (`runs`) every run."""
    total = 0
    for name in _held(store, paper):
        archive = store.archive(name)
        assert archive is not None
        size, left = archive.path.stat().st_size, sum(len(run["left_out"]) for run in archive.runs.values())
        total += size
        yield f"{name}: {len(archive.runs)} runs, {size / 1e6:.2f} MB, sha256 {archive.sha256}"
        yield f"  {left} files are left out for their size" if left else "  nothing is left out"
        for figure in archive.figures:
            records = [store.get(run_id) for run_id in figure["runs"]]
            records = [record for record in records if "reprod.config" in record.tags]
            seeds = [record for record in records if record.seed is not None]
            yield f"  {figure['figure']:<44} {figure['scale']:<7} {_about(seeds, records)}"
        for record in store.search() if runs else ():
            if record.id in archive.runs:
                yield f"  {record.id}  {record.name}  {_about([record], [record])}"
    if paper is None:
        yield f"{total / 1e6:.2f} MB together"


def _about(seeds: Sequence[Record], records: Sequence[Record]) -> str:
    """How many runs, how long they took, which commit made them, when, where."""
    if not records:
        return "no runs"
    commits = ", ".join(sorted({record.commit[:10] for record in records}))
    machines = "; ".join(sorted({machine(record) for record in records}))
    days = sorted({date(record)[:10] for record in records})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{len(seeds)} runs, {duration(total_seconds(seeds))}, commit {commits}, {when}, {machines}"
