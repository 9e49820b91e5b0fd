"""`reprod sweep`: a grid of parameters; what is missing of it, run by the pool under one parent."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence

from reprod import papers, project
from reprod.config import Config
from reprod.jobs import compare, housekeeping, launch, plan, pool
from reprod.jobs.times import Times, device_here, spoken, wants_gpu
from reprod.store import Store, writer
from reprod.store.connection import say


def sweep(
    experiment: str,
    values: Mapping[str, str],
    options: pool.Options,
    again: bool = False,
    dry_run: bool = False,
    wait: float = 600,
) -> int:
    """Run the grid of `values` under one parent run; show its runs side by side. 1 if a child failed, or another
    process is still at one."""
    configs = plan.grid(papers.known(experiment), values)
    idle = set.intersection(*(launch.ineffective(config, values) for config in configs))
    launch.say_ineffective(experiment, idle)
    pool.check(options)
    if not dry_run:
        plan.need(configs)
        project.writable(project.cache_dir(), "work in progress (REPROD_CACHE names another folder)")
    store = Store()
    made = plan.make(configs, store, again=again)
    print(f"{len(configs)} configurations: {counts(made)}")
    if dry_run:
        show_plan(made, store, options)
        return 0
    if not made.jobs and not made.running:
        compare.show(_lines(configs, store))
        return 0
    words = " ".join(f"{name}={text}" for name, text in values.items())
    identity = hashlib.sha256(" ".join(sorted(config.digest() for config in configs)).encode()).hexdigest()[:16]
    note = f"Sweep of `{experiment}`: `{words}`\n\n{len(configs)} configurations, {len(made.done)} seeds there before."
    with writer.sweep(experiment, f"sweep {experiment} {words}"[:250], identity, note, made.done) as parent:
        outcomes = run_missing(made, options, wait, parent_id=parent)
    compare.show(_lines(configs, Store()))
    print(pool.summary(outcomes))
    print(f"parent run {parent}")
    return 0 if all(outcome.state == "finished" for outcome in outcomes) else 1


def _lines(configs: Sequence[Config], store: Store) -> list[compare.Line]:
    ours = {config.for_seed(seed).digest() for config in configs for seed in config.seeds}
    records = store.readable(store.search(configs[0].experiment))
    return compare.lines(r for r in records if r.seed is not None and r.digest in ours)


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


def show_plan(made: plan.Plan, store: Store, options: pool.Options) -> None:
    """The command of every job, how long it may take, and whether it needs a GPU that is not here."""
    times = Times(store)
    guesses = [times.estimate(job.config) for job in made.jobs]
    for job, guess in zip(made.jobs, guesses, strict=True):
        how_long = f"about {spoken(guess)}" if guess is not None else "time unknown"
        gpu = ", needs a GPU" if wants_gpu(job.config) and device_here(job.config) == "cpu" else ""
        print(f"  {job.config.command()}  ({f'resume {job.resume}, ' if job.resume else ''}{how_long}{gpu})")
    known = [guess for guess in guesses if guess is not None]
    if made.jobs:
        rest = f"{len(guesses) - len(known)} jobs of unknown length" if len(known) < len(guesses) else ""
        total = f"about {spoken(sum(known) / options.workers)} with {options.workers} workers" if known else ""
        print(f"  {' and '.join(filter(None, [total, rest]))}")
