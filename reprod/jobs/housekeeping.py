"""Looking after a store: the state of its runs, differences between two, exact re-execution."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reprod import papers
from reprod.config import Named
from reprod.errors import BadInput, LeftOut
from reprod.run import Run, as_text
from reprod.store import Record, Store
from reprod.store.archive.format import as_npy, digest_of
from reprod.store.connection import say
from reprod.store.liveness import alive, gone
from reprod.store.provenance import allocations, device_name, device_since, provenance
from reprod.store.reader import lookup
from reprod.store.writer import settle

TIMING = {"seconds"}  # metrics that differ between two runs of the same thing


# -- status ---------------------------------------------------------------------------------------------------------


def state(record: Record) -> tuple[str, str]:
    """(live, waiting, dead, finished, failed or killed; what is known about it)."""
    if record.status == "RUNNING":
        if owner := alive(record.entity):
            return "live", owner
        if waiting := record.store.undelivered.get(record.id):
            return "waiting", f"{waiting} messages of it are kept on this machine: `reprod sync` delivers them"
        return "dead", gone(record.entity)
    return record.status.lower(), record.failure


def settle_dead(store: Store, record: Record) -> None:
    """Settle a dead run: KILLED, with how to go on."""
    how = "start the sweep again" if "reprod.sweep" in record.tags else f"`reprod resume {record.id}` continues it"
    settle(store.client, record.id, "KILLED", f"{gone(record.entity)}; {how}")


def declare_dead(store: Store, run_id: str) -> str:
    """Settle a run of which a person knows that nobody is at it, and its seeds. Raises `BadInput` for one that has
    ended, or whose process is seen on this machine."""
    record = store.get(run_id)
    if record.status != "RUNNING":
        raise BadInput(f"run {run_id} is {record.status}: there is nothing to settle")
    owner = alive(record.entity)
    if owner and " on " not in owner:
        raise BadInput(f"run {run_id} is not dead: {owner} is at it here; end that first")
    for each in (record, *store.children(run_id)):
        if each.status == "RUNNING":
            settle(store.client, each.id, "KILLED", f"declared dead; `reprod resume {run_id}` continues it")
    return record.name


def repair_orphan(store: Store, run_id: str) -> None:
    settle(store.client, run_id, "FAILED", "made by `mlflow run`, never started")


def orphans(store: Store) -> list[str]:
    """Runs that MLflow made and no entry point ever took (no conda, say), left as RUNNING."""
    places = [e.experiment_id for e in store.client.search_experiments(max_results=1000)]
    wanted = "attributes.status = 'RUNNING' AND tags.`mlflow.source.type` = 'PROJECT'"
    found = store.client.search_runs(places, wanted, max_results=1000)
    here = [run for run in found if "reprod.config" not in run.data.tags and "reprod.sweep" not in run.data.tags]
    names = set(papers.experiments())
    made = [run for run in here if run.data.tags.get("mlflow.project.entryPoint") in names]
    return [run.info.run_id for run in made if not alive(run)]


def survey(store: Store, *, repair: bool = False) -> list[dict[str, str]]:
    """The state of every run, of every unfinished sweep, and of what `mlflow run` never started; the dead ones settled
    where `repair`."""
    rows = []
    for record in (*store.search(), *store.sweeps()):
        now, about = state(record)
        if now == "dead" and repair:
            settle_dead(store, record)
            now, about = "repaired", f"now KILLED; `reprod resume {record.parent_id or record.id}` continues it"
        rows.append({"state": now, "run": record.id, "name": record.name, "about": about})
    for run_id in orphans(store):
        now, about = "orphan", "made by `mlflow run`, which never started it (or is starting it now)"
        if repair:
            repair_orphan(store, run_id)
            now, about = "repaired", "made by `mlflow run`, never started; now FAILED"
        rows.append({"state": now, "run": run_id, "name": "", "about": about})
    return rows


# -- diff -----------------------------------------------------------------------------------------------------------


def differences(a: Record, b: Record) -> Iterator[tuple[str, str, str, str]]:
    """(what, name, in a, in b) for parameters, environment and metrics that differ."""
    yield from _differing("parameter", _parameters(a), _parameters(b))
    yield from _differing("environment", environment(a), environment(b))
    metrics = [{k: f"{v:.10g}" for k, v in r.metrics.items()} for r in (a, b)]
    yield from _differing("metric", *metrics)


def _parameters(record: Record) -> dict[str, str]:
    """As today's table spells them; as they were logged, where it cannot read them."""
    for readable in record.store.readable([record]):
        return readable.config.spelled()
    return dict(record.entity.data.params)


def environment(record: Record) -> dict[str, str]:
    kept = ("git_commit", "git_dirty", "lock", "device", "host", "cpu", "threads", "python", "version")
    packages = json.loads(record.tags.get("reprod.packages", "{}"))
    return {name: record.tags.get(f"reprod.{name}", "") for name in kept} | packages


def _differing(what: str, a: dict[str, str], b: dict[str, str]) -> Iterator[tuple[str, str, str, str]]:
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            yield what, name, a.get(name, "-"), b.get(name, "-")


# -- verify ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deviation:
    """The largest difference between a recorded curve or array and its re-execution."""

    name: str
    points: int
    largest: float
    about: str = ""  # why nothing could be compared

    @property
    def equal(self) -> bool:
        return self.largest == 0.0


def verify(store: Store, run_id: str) -> tuple[list[Deviation], list[tuple[str, str, str, str]]]:
    """Re-execute a finished run from its recorded parameters, in memory; compare every metric and array.

    A seed of a batch is compared within its whole batch, as long as that is in the store: a batch of another size may
    round differently. Returns the deviations and what differs in the environment. Raises `BadInput` for a run that is
    not finished.
    """
    record = store.get(run_id)
    if record.status != "FINISHED":
        raise BadInput(f"run {run_id} is {record.status}: only a finished run can be verified")
    config = record.config
    config.prepare()
    recorded = [record]
    parent = store.parent(record)
    if parent is not None and "reprod.config" in parent.tags:
        config = parent.config
    elif record.parent_id and parent is None:
        say(f"the run {record.parent_id} of all seeds is gone: seed {record.seed} is executed alone")
    elif record.seed is None:
        recorded = sorted(store.readable(store.children(record.id)), key=lambda r: r.seed or 0)
    # a run that the user named is looked up; one that parameters describe is computed again, too
    again = Run(config, lookup=lambda wanted: lookup(store.client, wanted) if isinstance(wanted, Named) else None)
    before = allocations()
    papers.function(config.experiment)(config, again)
    runs = {run.seed: run for run in again.children()}
    deviations = [d for r in recorded if r.seed in runs for d in _deviations(r, runs[r.seed], len(recorded) > 1)]
    now = {k.removeprefix("reprod."): v for k, v in provenance(config).items()}
    now |= json.loads(now["packages"])
    now["device"] = device_name(again.notes.get("device", "")) or device_since(before)
    then = environment(record)
    return deviations, list(_differing("environment", then, {name: now.get(name, "") for name in then}))


def _deviations(record: Record, run: Run, many: bool) -> Iterator[Deviation]:
    prefix = f"seed {record.seed}: " if many else ""
    for name in sorted(run.metrics.keys() | record.metrics.keys()):
        if name in TIMING or name.startswith("timing"):
            continue
        then, now = record.history(name), dict(run.metrics.get(name, ()))
        steps = sorted(then.index.union(list(now)))
        gaps = [_gap(then[s], now[s]) if s in then.index and s in now else math.inf for s in steps]
        yield Deviation(prefix + name, len(steps), max(gaps, default=0.0))
    for name, array in sorted(run.arrays.items()):
        if name.startswith("timing"):
            continue
        try:
            stored = np.asarray(record.array(name))
        except LeftOut as left:  # an archive has no more than its sum
            same = digest_of(as_npy(array.values)) == left.sha256
            yield Deviation(f"{prefix}array {name}", array.values.size, 0.0 if same else math.inf)
            continue
        except BadInput as error:
            yield Deviation(f"{prefix}array {name}", 0, math.inf, str(error))
            continue
        same = stored.shape == array.values.shape
        yield Deviation(f"{prefix}array {name}", stored.size, _array_gap(stored, array.values) if same else math.inf)
    for name, table in sorted(run.tables.items()):
        try:
            same = record.table_text(name) == as_text(table.frame)
        except BadInput as error:
            yield Deviation(f"{prefix}table {name}", 0, math.inf, str(error))
            continue
        yield Deviation(f"{prefix}table {name}", table.frame.size, 0.0 if same else math.inf)


def _gap(a: float, b: float) -> float:
    """How far two recorded numbers are apart; a NaN is equal to a NaN, and infinitely far from all else. (MLflow keeps
    an infinity as the largest number.)"""
    if a == b or (math.isnan(a) and math.isnan(b)) or (abs(a) > 1e308 and abs(b) > 1e308 and (a > 0) == (b > 0)):
        return 0.0
    gap = abs(a - b)
    return math.inf if math.isnan(gap) else gap


def _array_gap(a: np.ndarray, b: np.ndarray) -> float:
    differing = a != b
    if a.dtype.kind in "fc" and b.dtype.kind in "fc":
        differing &= ~(np.isnan(a) & np.isnan(b))
    if not differing.any():
        return 0.0
    left, right = a[differing], b[differing]
    if a.dtype.kind in "iub" and b.dtype.kind in "iub":  # float64 does not tell large integers apart
        return float(max(abs(int(x) - int(y)) for x, y in zip(left, right, strict=True)))
    if a.dtype.kind not in "fciub" or b.dtype.kind not in "fciub":
        return math.inf
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.abs(left.astype(wide) - right.astype(wide))
    return float(np.where(np.isnan(gaps), np.inf, gaps).max())
