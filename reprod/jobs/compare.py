"""`reprod runs`: the runs of an experiment side by side. A line is a configuration: the parameters in which the lines
differ, the metrics one compares as mean +- standard deviation over seeds, time, commit."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from reprod import papers
from reprod.config import Config, resolve, spell
from reprod.errors import BadInput, nearest

if TYPE_CHECKING:
    from reprod.store import Record

SHOWN = 5  # metrics at most, where none is asked for
COLUMNS = 5  # parameters at most that have a column each


@dataclass(frozen=True)
class Line:
    """The newest finished run of each seed of a configuration, and the seeds whose newest run diverged."""

    config: Config
    done: tuple[Record, ...]
    failed: tuple[int, ...]

    def values(self, metric: str) -> list[float]:
        return [record.metrics[metric] for record in self.done if metric in record.metrics]

    @property
    def run(self) -> str:
        """The one id that stands for the line: of the parent of its seeds where they share one, else of the first."""
        parents = {record.parent_id for record in self.done}
        shared = parents.pop() if len(parents) == 1 and len(self.done) > 1 else None
        return shared or self.done[0].id


def lines(records: Iterable[Record]) -> list[Line]:
    """Runs that have a seed, newest first, joined by configuration. Those of one that never finished are left out."""
    newest: dict[str, dict[int, Record]] = {}
    for record in records:
        diverged = record.tags.get("reprod.outcome") == "diverged"
        if record.seed is not None and (record.status == "FINISHED" or diverged):
            newest.setdefault(record.config.for_seed(0).digest(), {}).setdefault(record.seed, record)
    found = []
    for seeds in newest.values():
        done = tuple(seeds[seed] for seed in sorted(seeds) if seeds[seed].status == "FINISHED")
        failed = tuple(seed for seed in sorted(seeds) if seeds[seed].status != "FINISHED")
        if done:
            found.append(Line(done[0].config, done, failed))
    return sorted(found, key=lambda line: [_sortable(getattr(line.config, name)) for name in differing(found)])


def chosen(records: Iterable[Record], experiment: str, values: Mapping[str, str]) -> list[Record]:
    """The records with these parameters, however they are spelled."""
    cls = papers.config_class(experiment)
    wanted = resolve(cls, values, check=False)
    names = [cls.aliases.get(name, name) for name in values]
    return [r for r in records if all(getattr(r.config, name) == getattr(wanted, name) for name in names)]


def differing(found: Sequence[Line]) -> list[str]:
    """The parameters in which the lines differ and that change a result, and the scale; in the table's order."""
    if not found:
        return []
    matters = [f.name for f in fields(found[0].config) if f.metadata.get("identity", True) or f.name == "scale"]
    return [name for name in matters if name != "seeds" and len({parameter(line, name) for line in found}) > 1]


def parameter(line: Line, name: str) -> str:
    """The spelling of a parameter; empty where it has no effect with the others."""
    return "" if name in line.config.unused() else spell(getattr(line.config, name))


def compared(found: Sequence[Line], asked: Sequence[str] = ()) -> list[str]:
    """The metrics to show: those asked for, or (tests first, training last) those in which the lines differ."""
    there = sorted({name for line in found for record in line.done for name in record.metrics})
    for name in asked:
        if name not in there:
            raise BadInput(f"no run here has a metric {name!r}{nearest(name, there)} There are: {', '.join(there)}")
    if asked or not found:
        return list(asked)
    parameters = {f.name for f in fields(found[0].config)} | {"seconds"}
    telling = [n for n in there if n not in parameters and len({v for line in found for v in line.values(n)}) > 1]
    order = sorted(telling or [n for n in there if n not in parameters], key=_rank)
    return order[:SHOWN]


def _rank(metric: str) -> tuple[int, str]:
    return {"test": 0, "train": 2}.get(metric.partition("/")[0], 1), metric


def _sortable(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (1, float(value), "") if number else (0 if value is None else 2, 0.0, spell(value))


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the standard deviation of a sample where there are two or more."""
    finite = all(abs(value) < 1e300 for value in values)  # MLflow keeps an infinity as the largest number
    mean = statistics.fmean(values) if finite and values else sum(values) if values else math.nan
    return mean, statistics.stdev(values) if len(values) > 1 and finite else None


def rows(found: Sequence[Line], asked: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The table as data."""
    names, metrics = differing(found), compared(found, asked)
    return [
        {
            "parameters": {name: parameter(line, name) for name in names},
            "seeds": [record.seed for record in line.done],
            "failed_seeds": list(line.failed),
            "metrics": {
                name: {"mean": mean, "std": std, "n": len(line.values(name))}
                for name in metrics
                for mean, std in [spread(line.values(name))]
            },
            "seconds": statistics.median(record.seconds for record in line.done),
            "commits": sorted({record.commit for record in line.done}),
            "run": line.run,
            "runs": [record.id for record in line.done],
        }
        for line in found
    ]


def show(found: Sequence[Line], asked: Sequence[str] = ()) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    made, names = rows(found, asked), differing(found)
    usual = {name: statistics.mode(row["parameters"][name] for row in made) for name in names}
    narrow = len(names) > COLUMNS  # then one column says in what a line differs from most
    for name in (*(["parameters"] if narrow else names), "seeds"):
        table.add_column(name, overflow="fold")
    for name in (*compared(found, asked), "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("commit", "run"):
        table.add_column(name, no_wrap=True)
    for row in made:
        failed = f" ({len(row['failed_seeds'])} failed)" if row["failed_seeds"] else ""
        unlike = [f"{name}={text or '-'}" for name, text in row["parameters"].items() if text != usual[name]]
        table.add_row(
            *([" ".join(unlike)] if narrow else row["parameters"].values()), spell_seeds(row["seeds"]) + failed,
            *(_number(m["mean"], m["std"]) for m in row["metrics"].values()), minutes(row["seconds"]),
            ", ".join(commit[:7] or "unknown" for commit in row["commits"]), row["run"][:8],
        )  # fmt: skip
    console = Console(width=None if Console().is_terminal else 180)
    console.print(table)
    if narrow:
        console.print("elsewhere", *(f"{name}={text}" for name, text in usual.items() if text), highlight=False)


def spell_seeds(seeds: Sequence[int]) -> str:
    """`0-4`, `0,2,3`: as the command line reads them."""
    several = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}-{seeds[-1]}" if several else ",".join(map(str, seeds))


def _number(mean: float, std: float | None) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.4g}" if std is None else f"{mean:.4g} +- {std:.2g}"


def minutes(seconds: float) -> str:
    if math.isnan(seconds):
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
