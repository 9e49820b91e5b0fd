"""`reprod archive check`: archived runs, executed again and compared bit by bit."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reprod.errors import BadInput, Diverged
from reprod.jobs.housekeeping import Deviation, verify
from reprod.store import Record
from reprod.store.archive.store import ArchiveStore

TOLERANCE = 1e-4  # of the largest value of a curve or an array: what another type of processor may round differently
EQUAL, NEAR, DIFFERENT, UNCHECKED = "equal", "equal within the tolerance", "different", "not checked"


@dataclass(frozen=True)
class Outcome:
    record: Record
    verdict: str
    about: str

    @property
    def line(self) -> str:
        return f"{self.verdict}: {self.record.experiment} {self.record.id} ({self.record.name}): {self.about}"


def units(store: ArchiveStore, papers: Iterable[str]) -> list[Record]:
    """What can be executed by itself: runs of one seed, and of the runs that have several seeds the whole."""
    chosen: dict[str, Record] = {}
    for paper in papers:
        archive = store.archive(paper)
        for run_id in archive.runs if archive else ():
            record = store.get(run_id)
            if "reprod.config" not in record.tags or record.status != "FINISHED" or record.seed is None:
                continue
            parent = store.parent(record)
            whole = parent if parent is not None and "reprod.config" in parent.tags else record
            chosen.setdefault(whole.id, whole if whole.status == "FINISHED" else record)
    return list(chosen.values())


def quickest(records: Sequence[Record]) -> list[Record]:
    """The quickest run of every experiment."""
    best: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: (r.seconds if math.isfinite(r.seconds) else math.inf, r.id)):
        best.setdefault(record.experiment, record)
    return sorted(best.values(), key=lambda r: r.experiment)


def sample(records: Sequence[Record], count: int) -> list[Record]:
    return random.SystemRandom().sample(list(records), min(count, len(records)))


def check(records: Iterable[Record], store: ArchiveStore, under: float = math.inf) -> Iterator[Outcome]:
    """Execute runs again, with the thread count that they had. Those that took longer than `under` seconds, or on a
    device that is not here, are named and passed over."""
    for record in records:
        device = record.tags.get("reprod.device", "cpu")
        if record.seconds > under:
            yield Outcome(record, UNCHECKED, f"it took {record.seconds:.0f} s, more than {under:.0f}")
        elif device not in ("cpu", *_devices()):
            yield Outcome(record, UNCHECKED, f"it ran on {device}, and there is none here")
        else:
            yield _checked(record, store)


def _checked(record: Record, store: ArchiveStore) -> Outcome:
    try:
        with _threads(record.tags.get("reprod.threads", "")):
            deviations, environment = verify(store, record.id)
    except BadInput as error:
        return Outcome(record, UNCHECKED, str(error))
    except Diverged as error:
        return Outcome(record, DIFFERENT, f"it diverges now: {error}")
    worst = [d for d in deviations if not d.equal]
    if not worst:
        return Outcome(record, EQUAL, f"{len(deviations)} metrics, arrays and tables, to the last bit")
    shares = {d.name: _share(d, record, store) for d in worst}
    name = max(shares, key=lambda each: shares[each])
    about = f"{len(worst)} of {len(deviations)} differ, most of all {name}, by {shares[name]:.3g} of its largest value"
    machine = {what: f"{then} then, {now} now" for _, what, then, now in environment if what in ("cpu", "device")}
    if machine and shares[name] <= TOLERANCE:
        return Outcome(record, NEAR, f"{about} (tolerance {TOLERANCE:g}; {'; '.join(machine.values())})")
    changed = "; ".join(f"{what} {then} -> {now}" for _, what, then, now in environment if what != "git_commit")
    return Outcome(record, DIFFERENT, about + (f" (the environment differs, too: {changed})" if changed else ""))


def _share(deviation: Deviation, record: Record, store: ArchiveStore) -> float:
    """A deviation as a share of the largest recorded value."""
    name = deviation.name
    if name.startswith("seed "):
        seed, _, name = name.removeprefix("seed ").partition(": ")
        record = next(child for child in store.children(record.id) if child.seed == int(seed))
    try:
        what, _, rest = name.partition(" ")
        values = record.array(rest) if what == "array" else record.history(name).to_numpy()
        largest = float(abs(values[abs(values) < math.inf]).max()) if values.size else 0.0
    except (BadInput, TypeError, ValueError):
        return math.inf
    return deviation.largest / largest if largest else math.inf


def _devices() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


@contextmanager
def _threads(recorded: str) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(int(recorded) if recorded.isdigit() else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
