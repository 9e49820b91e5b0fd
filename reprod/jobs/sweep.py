"""`reprod sweep`: a grid of parameters; what is missing of it, run by the pool under one parent."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from reprod import papers, project
from reprod.jobs import housekeeping, launch, plan, pool
from reprod.store import Store, writer
from reprod.store.connection import say


def sweep(experiment: str, values: Mapping[str, str], options: pool.Options, again: bool, wait: float = 600) -> int:
    """Run the grid of `values` under one parent run. 1 if a child failed, or another process is still at one."""
    configs = plan.grid(papers.known(experiment), values)
    idle = set.intersection(*(launch.ineffective(config, values) for config in configs))
    launch.say_ineffective(experiment, idle)
    pool.check(options)
    plan.need(configs)
    project.writable(project.cache_dir(), "work in progress (REPROD_CACHE names another folder)")
    store = Store()
    made = plan.make(configs, store, again=again)
    print(f"{len(configs)} configurations: {counts(made)}")
    if not made.jobs and not made.running:
        return 0
    words = " ".join(f"{name}={text}" for name, text in values.items())
    identity = hashlib.sha256(" ".join(sorted(config.digest() for config in configs)).encode()).hexdigest()[:16]
    note = f"Sweep of `{experiment}`: `{words}`\n\n{len(configs)} configurations, {len(made.done)} seeds there before."
    with writer.sweep(experiment, f"sweep {experiment} {words}"[:250], identity, note, made.done) as parent:
        outcomes = run_missing(made, options, wait, parent_id=parent)
    print(pool.summary(outcomes))
    print(f"parent run {parent}")
    return 0 if all(outcome.state == "finished" for outcome in outcomes) else 1


def run_missing(
    made: plan.Plan, options: pool.Options, wait: float, *, parent_id: str | None = None
) -> list[pool.Outcome]:
    """Run the jobs of a plan. Then, for at most `wait` seconds, wait for the runs that others are at, and take over
    those that they stop (one whose parent was killed needs a moment for its checkpoint)."""
    outcomes = pool.run_all(made.jobs, options, parent_id=parent_id, wait=wait) if made.jobs else []
    elsewhere, end = made.running, time.monotonic() + wait
    if elsewhere:
        named = ", ".join(f"{record.id} ({housekeeping.state(record)[1]})" for record in elsewhere[:5])
        more = f" and {len(elsewhere) - 5} more" if len(elsewhere) > 5 else ""
        say(f"waiting for runs that others are at, {wait / 60:.0f} min at most (--wait): {named}{more}")
    while elsewhere and time.monotonic() < end:
        time.sleep(1.0)
        found = plan.make([record.config for record in elsewhere], Store())
        elsewhere = found.running
        outcomes += pool.run_all(found.jobs, options, parent_id=parent_id, wait=wait) if found.jobs else []
    left = [pool.Outcome(plan.Job(record.config), state="elsewhere", reason=f"run {record.id}") for record in elsewhere]
    return outcomes + left


def counts(made: plan.Plan) -> str:
    missing = sum(len(job.config.seeds) for job in made.jobs)
    resumed = sum(job.resume is not None for job in made.jobs)
    parts = [f"{len(made.done)} finished", f"{missing} to run in {len(made.jobs)} jobs"]
    parts += [f"{resumed} of the jobs resumed"] if resumed else []
    parts += [f"{len(made.failed)} diverged before"] if made.failed else []
    parts += [f"{len(made.running)} running elsewhere"] if made.running else []
    return ", ".join(parts)
