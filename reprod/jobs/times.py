"""How long a run will take here, from runs that are finished: those of the store, and those of the archive, scaled by
how fast their machine was and this one is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, fields

from reprod.config import SCALES, Config, resolve
from reprod.errors import BadInput
from reprod.machine import calibration
from reprod.store import Record, Store
from reprod.store.archive.store import ArchiveStore, archives
from reprod.store.provenance import cpu

LONG = 3600  # seconds from which on a run is called long


@dataclass(frozen=True)
class Known:
    """A finished run: its parameters, and the seconds that one of its seeds would take here."""

    config: Config
    seconds: float


class Times:
    """Estimates from a store, if one is given, and from the archive, if there is one."""

    def __init__(self, store: Store | None = None):
        self.stores = [*([store] if store else []), *([ArchiveStore()] if archives() else [])]
        self._known: dict[tuple[str, str], list[Known]] = {}

    def estimate(self, config: Config) -> float | None:
        """Seconds that a run may take: after the finished run of its experiment and scale whose parameters are nearest
        (the median, if several are equally near), or, where its experiment says how much work parameters make, after
        one of another scale. None if there is none."""
        known = self.known(config.experiment, device_here(config))
        alike = [each for each in known if each.config.scale == config.scale]
        work = config.work()
        if not alike and work is not None:
            alike = [each for each in known if each.config.scale != "smoke"]  # a smoke run is all set-up and no work
        if not alike:
            return None
        distance = [_distance(config, each.config) for each in alike]
        nearest = [each for each, d in zip(alike, distance, strict=True) if d == min(distance)]
        per_seed = [each.seconds * _ratio(work, each.config.work()) for each in nearest]
        return statistics.median(per_seed) * len(config.seeds)

    def known(self, experiment: str, device: str) -> list[Known]:
        if (experiment, device) not in self._known:
            self._known[experiment, device] = list(self._gathered(experiment, device))
        return self._known[experiment, device]

    def _gathered(self, experiment: str, device: str) -> Iterator[Known]:
        for store in self.stores:
            try:
                records = list(store.readable(store.search(experiment)))
            except BadInput as error:  # a damaged archive is no reason not to start
                print(f"reprod: no estimate from {store.uri}: {error}")
                continue
            several = {record.id for record in records if record.seed is None}
            for record in records:
                seconds = record.seconds / len(record.config.seeds)
                if record.parent_id in several or record.status != "FINISHED" or not math.isfinite(seconds):
                    continue  # a seed of a batch took as long as the whole batch
                if (record.tags.get("reprod.device") or "cpu") == device:
                    yield Known(record.config, seconds * _speed(store, record))


def _speed(store: Store, record: Record) -> float:
    """How much longer it takes here than it took there. On a GPU the processor does not say."""
    then = record.tags.get("reprod.cpu", "")
    if not isinstance(store, ArchiveStore) or then == cpu() or record.tags.get("reprod.device", "cpu") != "cpu":
        return 1.0
    there = store.machines(record.tags.get("reprod.paper", "")).get(then)
    return calibration() / there if there else 1.0


def _ratio(wanted: float | None, known: float | None) -> float:
    return wanted / known if wanted and known else 1.0


def _distance(a: Config, b: Config) -> tuple[int, float]:
    """In how many parameters they differ, and by how much: a step of 1/64 is nearer to 1/128 than to 1/2."""
    both = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name != "seeds"]
    differing = [(x, y) for x, y in both if x != y]
    ratios = [x / y for x, y in differing if all(isinstance(v, (int, float)) and v > 0 for v in (x, y))]
    return len(differing), sum(abs(math.log(ratio)) for ratio in ratios)


def device_here(config: Config) -> str:
    """The device that a run would compute on: `cpu`, or the name of a GPU."""
    if config.device == "cpu":
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return torch.cuda.get_device_name(torch.device("cuda" if config.device == "auto" else config.device))


def wants_gpu(config: Config) -> bool:
    """Whether its settings need a GPU: those of an experiment at paper scale that has a `medium` one for processors."""
    return config.scale == "paper" and "medium" in config.scales


def warning(config: Config, times: Times) -> str:
    """What to know before a run starts: how long it will take; where that is long, what is shorter."""
    seconds = times.estimate(config)
    lacking = wants_gpu(config) and device_here(config) == "cpu"
    head = "no GPU: " if lacking else ""
    if seconds is None:
        return f"{head}how long it will take on this machine is not known" if lacking else ""
    words = f"{head}about {spoken(seconds)} on this machine"
    if seconds < LONG:
        return words
    given = {name: text for name, text in config.given().items() if name != "scale"}
    shorter: list[str] = []
    for scale in SCALES[SCALES.index(config.scale) + 1 : -1]:
        try:
            other = times.estimate(resolve(type(config), {**given, "scale": scale}))
        except BadInput:
            continue
        if other is not None:
            shorter.append(f"scale={scale} takes {'about ' if not shorter else ''}{spoken(other)}")
    return "; ".join([words, *shorter])


def spoken(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours"
