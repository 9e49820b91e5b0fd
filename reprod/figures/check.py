"""All claims of the chosen figures against the store: one row each."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

from reprod.errors import BadInput
from reprod.figures.claims import Finding
from reprod.figures.figure import Figure, gather, largest_scale, needs
from reprod.store import Store


@dataclasses.dataclass(frozen=True)
class Row:
    """A claim, the figure that shows it, and where its runs are."""

    paper: str
    figure: str
    scale: str
    claim: Finding


def check(chosen: Sequence[Figure], scale: str | None, store: Store) -> list[Row]:
    """Check every claim, at a scale or, figure by figure, at the largest of which all runs are there. A figure whose
    runs are missing gives one row that says how many."""
    index: dict = {}
    rows = []
    for each in chosen:
        if not each.claiming:
            continue
        at = scale or largest_scale(each, store, index)
        try:
            found = each.findings(gather(each, at, store, index))
        except Exception as error:  # a run is missing, or damaged: the other claims are checked all the same
            found = each.unchecked(_why_not(each, at, store, index, error))
        rows += [Row(each.paper, each.id, at, claim) for claim in found]
    return rows


def _why_not(each: Figure, scale: str, store: Store, index: dict, error: Exception) -> str:
    if scale in each.scales:
        have = needs(each.runs(scale), store, index)
        if lacking := sum(len(config.seeds) for config in have.missing):
            return f"{lacking} runs are missing: reprod reproduce --figure {each.id} --scale {scale}"
    return str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("figure", "claim", "published", "ours (95 % interval)", "n", "verdict"):
        table.add_column(column, overflow="fold")
    for row in rows:
        claim = row.claim
        verdict = claim.verdict + (f" ({claim.reason})" if claim.reason else "")
        table.add_row(row.figure, claim.statement, claim.published, claim.ours, str(claim.n or ""), verdict)
    console = Console(width=None if Console().is_terminal else 180)
    console.print(table)


def to_json(rows: Sequence[Row]) -> str:
    """The rows as JSON, with the ids of their runs; numbers that are not finite become null."""
    return json.dumps(
        [{"paper": r.paper, "figure": r.figure, "scale": r.scale, **_plain(r.claim)} for r in rows], indent=1
    )


def _plain(claim: Finding) -> dict:
    fields = dataclasses.asdict(claim)
    low, high = claim.interval
    fields["value"] = claim.value if math.isfinite(claim.value) else None
    fields["interval"] = [low, high] if math.isfinite(low) else None
    return fields
