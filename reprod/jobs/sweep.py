"""`reprod sweep`: a grid of parameters; what is missing of it, run by the pool under one parent."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence

from reprod import papers
from reprod.config import Config
from reprod.jobs import compare, plan, pool
from reprod.jobs.compare import minutes
from reprod.store import Store, writer


def sweep(
    experiment: str, values: Mapping[str, str], options: pool.Options, again: bool = False, dry_run: bool = False
) -> int:
    """Run the grid of `values` under one parent run; show its runs side by side. 1 if a child failed."""
    configs = plan.grid(papers.known(experiment), values)
    pool.check(options)
    if not dry_run:
        plan.need(configs)
    store = Store()
    made = plan.make(configs, store, again=again) if dry_run else settled_plan(configs, store, again)
    print(f"{len(configs)} configurations: {counts(made)}")
    if dry_run:
        show_plan(made, store, options)
        return 0
    if not made.jobs:
        compare.show(_lines(configs, store))
        return 0
    words = " ".join(f"{name}={text}" for name, text in values.items())
    identity = hashlib.sha256(" ".join(sorted(config.digest() for config in configs)).encode()).hexdigest()[:16]
    note = f"Sweep of `{experiment}`: `{words}`\n\n{len(configs)} configurations, {len(made.done)} seeds there before."
    with writer.sweep(experiment, f"sweep {experiment} {words}"[:250], identity, note) as parent:
        outcomes = pool.run_all(made.jobs, options, parent_id=parent)
    compare.show(_lines(configs, store))
    print(pool.summary(outcomes))
    print(f"parent run {parent}")
    return 0 if all(outcome.state == "finished" for outcome in outcomes) else 1


def _lines(configs: Sequence[Config], store: Store) -> list[compare.Line]:
    ours = {config.for_seed(seed).digest() for config in configs for seed in config.seeds}
    records = store.readable(store.search(configs[0].experiment))
    return compare.lines(r for r in records if r.seed is not None and r.digest in ours)


def settled_plan(configs: Sequence, store: Store, again: bool) -> plan.Plan:
    """The plan once no other process of this machine is at one of these runs: one that was told to stop (its parent was
    killed) needs a moment for its checkpoint."""
    made = plan.make(configs, store, again=again)
    said = False
    while made.running:
        if not said:
            names = ", ".join(f"{record.id} ({record.tags.get('reprod.process', '')})" for record in made.running)
            print(f"waiting for runs that other processes are at: {names}", file=sys.stderr)
            said = True
        time.sleep(1.0)
        made = plan.make(configs, store, again=again)
    return made


def counts(made: plan.Plan) -> str:
    missing = sum(len(job.config.seeds) for job in made.jobs)
    resumed = sum(job.resume is not None for job in made.jobs)
    parts = [f"{len(made.done)} finished", f"{missing} to run in {len(made.jobs)} jobs"]
    parts += [f"{resumed} of the jobs resumed"] if resumed else []
    parts += [f"{len(made.failed)} diverged before"] if made.failed else []
    parts += [f"{len(made.running)} running elsewhere"] if made.running else []
    return ", ".join(parts)


def show_plan(made: plan.Plan, store: Store, options: pool.Options) -> None:
    """The command of every job and how long it may take."""
    index = plan.Index()
    guesses = [plan.estimate(job, store, index) for job in made.jobs]
    for job, guess in zip(made.jobs, guesses, strict=True):
        how_long = f"about {minutes(guess)}" if guess is not None else "time unknown"
        print(f"  {job.config.command()}  ({'resume ' + job.resume + ', ' if job.resume else ''}{how_long})")
    known = [guess for guess in guesses if guess is not None]
    if known:
        rest = f", and {len(guesses) - len(known)} jobs of unknown length" if len(known) < len(guesses) else ""
        print(f"  about {minutes(sum(known) / options.workers)} with {options.workers} workers{rest}")
