"""`reprod reproduce`: what figures lack, run by the pool, then drawn and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reprod import project
from reprod.figures.check import check, show
from reprod.figures.figure import Figure, draw_all
from reprod.jobs import plan, pool
<<<<<<< HEAD
from reprod.jobs.sweep import counts, settled_plan
from reprod.jobs.times import Times, device_here, spoken, wants_gpu
=======
from reprod.jobs.sweep import counts, run_missing, show_plan
>>>>>>> main
from reprod.store import Store
from reprod.store.archive.restore import restore
from reprod.store.archive.store import ArchiveStore, archives


def reproduce(
    chosen: Sequence[Figure],
    scale: str,
    options: pool.Options,
    out: Path,
    dry_run: bool,
    wait: float = 600,
    archive: bool = True,
) -> int:
    """Run what the figures lack, draw them, check the claims. What the archive has is taken from there, unless
    `archive` is false. 1 if something failed or is still missing."""
    configs = plan.figure_configs(chosen, scale)
    pool.check(options)
    store = Store()
    made = plan.make(configs, store)
    print(f"{len(chosen)} figures at scale {scale} need {sum(len(c.seeds) for c in configs)} runs: {counts(made)}")
    if archive and made.jobs and archives():
        held = ArchiveStore()
        made, ids = plan.held(made, held)
        if ids:
            print(f"  {len(ids)} of them are in the archive and are taken from there (--no-archive runs them anew)")
            if not dry_run:
                restore(held.all, only={each for run_id in ids for each in held.with_parents(run_id)})
    show_plan(made, store, options)
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
<<<<<<< HEAD
    return 1 if missing else 0


def _show_plan(made: plan.Plan, store: Store, options: pool.Options) -> None:
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
=======
    return 1 if complaints else 0
>>>>>>> main
