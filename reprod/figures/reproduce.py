"""`reprod reproduce`: what figures lack, run by the pool, then drawn and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reprod import project
from reprod.figures.check import check, show
from reprod.figures.figure import Figure, draw_all
from reprod.jobs import plan, pool
from reprod.jobs.sweep import counts, run_missing, show_plan
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
    return 1 if complaints else 0
