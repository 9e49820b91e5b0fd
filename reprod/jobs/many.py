"""`reprod sweep` and `reprod reproduce`: what is missing, run by the pool, then drawn and checked."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reprod import papers
from reprod.errors import BadInput
from reprod.jobs import plan, pool
from reprod.store import Store, writer

if TYPE_CHECKING:
    from reprod.figures.figure import Figure


def sweep(experiment: str, values: Mapping[str, str], options: pool.Options, again: bool) -> int:
    """Run the grid of `values` under one parent run. 1 if a child failed."""
    configs = plan.grid(papers.known(experiment), values)
    pool.check(options)
    plan.need(configs)
    store = Store()
    made = _settled_plan(configs, store, again)
    print(f"{len(configs)} configurations: {_counts(made)}")
    if not made.jobs:
        return 0
    words = " ".join(f"{name}={text}" for name, text in values.items())
    identity = hashlib.sha256(" ".join(sorted(config.digest() for config in configs)).encode()).hexdigest()[:16]
    note = f"Sweep of `{experiment}`: `{words}`\n\n{len(configs)} configurations, {len(made.done)} seeds there before."
    with writer.sweep(experiment, f"sweep {experiment} {words}"[:250], identity, note) as parent:
        outcomes = pool.run_all(made.jobs, options, parent_id=parent)
    print(pool.summary(outcomes))
    print(f"parent run {parent}")
    return 0 if all(outcome.state == "finished" for outcome in outcomes) else 1


def reproduce(chosen: Sequence[Figure], scale: str, options: pool.Options, out: Path, dry_run: bool) -> int:
    """Run what the figures lack, draw them, check the claims. 1 if something failed or is still missing."""
    from reprod.figures.check import check, show
    from reprod.figures.figure import gather, log, write

    configs = plan.figure_configs(chosen, scale)
    pool.check(options)
    store = Store()
    made = _settled_plan(configs, store, again=False) if not dry_run else plan.make(configs, store)
    print(f"{len(chosen)} figures at scale {scale} need {sum(len(c.seeds) for c in configs)} runs: {_counts(made)}")
    _show_plan(made, store, options)
    if dry_run:
        return 0
    if made.jobs:
        plan.need([job.config for job in made.jobs])
        print(pool.summary(pool.run_all(made.jobs, options)))
    store, index, missing = Store(), plan.Index(), 0
    for each in chosen:
        try:
            runs = gather(each, scale, store, index)
            paths = write(each, runs, out)
            log(each, runs, paths, store)
            print(f"{each.id}: {', '.join(map(str, paths))}")
        except BadInput as error:
            missing += 1
            print(error)
    show(check(chosen, scale, store))
    return 1 if missing else 0


def _settled_plan(configs: Sequence, store: Store, again: bool) -> plan.Plan:
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


def _counts(made: plan.Plan) -> str:
    missing = sum(len(job.config.seeds) for job in made.jobs)
    resumed = sum(job.resume is not None for job in made.jobs)
    parts = [f"{len(made.done)} finished", f"{missing} to run in {len(made.jobs)} jobs"]
    parts += [f"{resumed} of the jobs resumed"] if resumed else []
    parts += [f"{len(made.failed)} diverged before"] if made.failed else []
    parts += [f"{len(made.running)} running elsewhere"] if made.running else []
    return ", ".join(parts)


def _show_plan(made: plan.Plan, store: Store, options: pool.Options) -> None:
    index = plan.Index()
    guesses = [plan.estimate(job, store, index) for job in made.jobs]
    for job, guess in zip(made.jobs, guesses, strict=True):
        how_long = f"about {_minutes(guess)}" if guess is not None else "time unknown"
        print(f"  {job.config.command()}  ({'resume ' + job.resume + ', ' if job.resume else ''}{how_long})")
    known = [guess for guess in guesses if guess is not None]
    if known:
        rest = f", and {len(guesses) - len(known)} jobs of unknown length" if len(known) < len(guesses) else ""
        print(f"  about {_minutes(sum(known) / options.workers)} with {options.workers} workers{rest}")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
