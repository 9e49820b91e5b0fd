"""What is left to run: configurations against the store.

The identity of a run is the digest of its resolved configuration, per seed, whatever made it: the command line,
`mlflow run`, a sweep, a figure. A finished seed is never run again; an interrupted run is resumed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reprod import papers
from reprod.config import Config, kind_of, resolve
from reprod.store.reader import seed_state

if TYPE_CHECKING:
    from reprod.store import Record, Store

Index = dict[str, dict[str, list["Record"]]]


@dataclass
class Job:
    """One process to start: a configuration (with the seeds that are missing), fresh or continuing `resume`."""

    config: Config
    resume: str | None = None
    again: bool = False  # although it is finished

    @property
    def title(self) -> str:
        return self.config.title() + (" (resumed)" if self.resume else "")


@dataclass
class Plan:
    """`jobs` to start, `done` seeds that are finished, `running` ones that another process is at."""

    jobs: list[Job] = field(default_factory=list)
    done: list[Record] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    running: list[Record] = field(default_factory=list)


def grid(experiment: str, values: Mapping[str, str]) -> list[Config]:
    """All combinations: `tol=0.1,0.01` gives two values; a list parameter (seeds, factors) is one value, and `|`
    separates several (`test_factors=0.5,1|1,2`). Raises `BadInput` before anything runs."""
    cls = papers.config_class(experiment)
    axes = []
    for name, text in values.items():
        try:
            several = "|" if getattr(kind_of(cls, name), "__origin__", None) is tuple else ","
        except KeyError:
            several = ","
        axes.append([(name, part) for part in text.split(several)])
    return list(unique(resolve(cls, dict(point)) for point in itertools.product(*axes)))


def unique(configs: Iterable[Config]) -> list[Config]:
    """Without repetitions; configurations that differ in their seeds alone are joined."""
    joined: dict[str, Config] = {}
    for config in configs:
        key = config.for_seed(0).digest()
        if key in joined:
            seeds = tuple(dict.fromkeys(joined[key].seeds + config.seeds))
            joined[key] = replace(joined[key], seeds=seeds)
        else:
            joined[key] = config
    return list(joined.values())


def make(configs: Sequence[Config], store: Store, *, again: bool = False) -> Plan:
    """Compare configurations with the store. `again` runs also what is finished."""
    plan, index = Plan(), Index()
    for config in unique(configs):
        if again:
            plan.jobs.append(Job(config, again=True))
            continue
        if config.experiment not in index:
            index[config.experiment] = store.by_digest(config.experiment)
        missing = []
        for seed in config.seeds:
            state, record = seed_state(config, seed, index[config.experiment])
            if state == "missing" or record is None:
                missing.append(seed)
            else:
                {"done": plan.done, "running": plan.running, "failed": plan.failed}[state].append(record)
        if missing:
            plan.jobs.append(_job(replace(config, seeds=tuple(missing)), index[config.experiment]))
    return plan


def held(made: Plan, archive: Store) -> tuple[Plan, list[str]]:
    """A plan without the seeds that an archive holds finished, or diverged; and the ids of these runs."""
    index, ids, jobs = Index(), [], []
    for job in made.jobs:
        if job.config.experiment not in index:
            index[job.config.experiment] = archive.by_digest(job.config.experiment)
        missing = []
        for seed in job.config.seeds:
            state, record = seed_state(job.config, seed, index[job.config.experiment])
            if record is not None and state in ("done", "failed"):
                ids.append(record.id)
            else:
                missing.append(seed)
        if len(missing) == len(job.config.seeds):
            jobs.append(job)
        elif missing:
            jobs.append(Job(replace(job.config, seeds=tuple(missing))))
    return replace(made, jobs=jobs), ids


def _job(config: Config, runs: Mapping[str, list[Record]]) -> Job:
    """Continue an interrupted run that has these seeds, if there is one, else start afresh."""
    same = config.for_seed(0).digest()
    best: tuple[int, str, Config] | None = None
    for record in itertools.chain.from_iterable(runs.values()):
        if record.status not in ("KILLED", "RUNNING", "FAILED") or record.tags.get("reprod.outcome") == "diverged":
            continue
        if not set(config.seeds) <= set(record.config.seeds) or record.config.for_seed(0).digest() != same:
            continue
        if record.parent_id and record.seed is not None and _is_seed_of_batch(record, runs):
            continue
        if best is None or len(record.config.seeds) < best[0]:
            best = len(record.config.seeds), record.id, record.config
    return Job(best[2], best[1]) if best else Job(config)


def _is_seed_of_batch(record: Record, runs: Mapping[str, list[Record]]) -> bool:
    """Whether a parent with several seeds owns this run: then the parent is what continues."""
    parents = (r for r in itertools.chain.from_iterable(runs.values()) if r.id == record.parent_id)
    return any(len(parent.config.seeds) > 1 for parent in parents)


def figure_configs(chosen: Iterable, scale: str) -> list[Config]:
    return unique(config for each in chosen for config in each.runs(scale))


def need(configs: Sequence[Config]) -> None:
    """Check data and devices once, before the first job. Raises `BadInput`."""
    seen = set()
    for config in configs:
        key = (config.experiment, config.data_dir, config.device)
        if key not in seen:
            seen.add(key)
            config.prepare()
