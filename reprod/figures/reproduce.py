"""`reprod reproduce`: what figures lack, run by the pool, then drawn and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reprod import project
from reprod.figures.check import check, show
from reprod.figures.figure import Figure, draw_all
from reprod.jobs import plan, pool
from reprod.jobs.sweep import counts, run_missing
from reprod.store import Store


def reproduce(
    chosen: Sequence[Figure], scale: str, options: pool.Options, out: Path, dry_run: bool, wait: float = 600
) -> int:
    """Run what the figures lack, draw them, check the claims. 1 if something failed or is still missing."""
    configs = plan.figure_configs(chosen, scale)
    pool.check(options)
    store = Store()
    made = plan.make(configs, store)
    print(f"{len(chosen)} figures at scale {scale} need {sum(len(c.seeds) for c in configs)} runs: {counts(made)}")
    _show_plan(made, store, options)
    if dry_run:
        return 0
    project.writable(out, "--out")
    project.writable(project.cache_dir(), "work in progress (REPROD_CACHE names another folder)")
    if made.jobs or made.running:
        plan.need([job.config for job in made.jobs])
        print(pool.summary(run_missing(made, options, wait)))
    store = Store()
    _, complaints = draw_all(chosen, scale, store, out, log=True)
    show(check(chosen, scale, store))
    return 1 if complaints else 0


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
