"""`reprod sweep`: a grid of parameters; what is missing of it, run by the pool under one parent."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence

from reprod import papers
from reprod.jobs import plan, pool
from reprod.store import Store, writer


def sweep(experiment: str, values: Mapping[str, str], options: pool.Options, again: bool) -> int:
    """Run the grid of `values` under one parent run. 1 if a child failed."""
    configs = plan.grid(papers.known(experiment), values)
    pool.check(options)
    plan.need(configs)
    store = Store()
    made = settled_plan(configs, store, again)
    print(f"{len(configs)} configurations: {counts(made)}")
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
