"""What there is: papers, experiments and figures, and what a store holds of each."""

from __future__ import annotations

from typing import Any

from reprod import papers
from reprod.figures.figure import figures as find
from reprod.figures.figure import needs
from reprod.store import Store


def listing(store: Store) -> list[dict[str, Any]]:
    """One entry per paper: its experiments with their runs by status, its figures with the runs there and needed by
    scale."""
    index: dict[str, Any] = {}
    listed: list[dict[str, Any]] = []
    for paper in papers.papers().values():
        experiments, drawn = [], []
        for name in paper.experiments:
            index[name] = store.by_digest(name)
            records = [r for same in index[name].values() for r in same]
            counts = {s: sum(r.status == s for r in records) for s in ("FINISHED", "RUNNING", "FAILED", "KILLED")}
            there = {status.lower(): count for status, count in counts.items() if count}
            about = (papers.config_class(name).__doc__ or "").strip().splitlines()[0]
            experiments.append({"name": name, "about": about, "runs": there})
        for each in find(paper.name):
            states = {}
            for scale in each.scales:
                have = needs(each.runs(scale), store, index)
                wanted = sum(len(config.seeds) for config, _ in have.found)
                states[scale] = {"there": wanted - sum(len(c.seeds) for c in have.missing), "needed": wanted}
            drawn.append({"id": each.id, "source": each.source, "runs": states})
        listed.append({"paper": paper.name, "title": paper.title, "experiments": experiments, "figures": drawn})
    return listed
