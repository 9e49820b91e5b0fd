"""`reprod checklist`: what the NeurIPS checklist and the ACM badges ask about experiments, answered from the store.

What the store does not know is said so; nothing is guessed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from reprod import papers, project
from reprod.config import SCALES
from reprod.errors import masked
from reprod.figures.figure import figures, needs
from reprod.figures.report import date, duration, machine, total_seconds
from reprod.store import Record, Store

UNKNOWN = "**not in the store**"


def text(store: Store, paper: str | None = None) -> str:
    """The checklist of one paper, or of all, as Markdown."""
    names = [paper] if paper else list(papers.papers())
    return "\n".join(line for name in names for line in _of(store, name))


def _of(store: Store, paper: str) -> Iterator[str]:
    names = list(papers.known_paper(paper).experiments)
    index = {name: store.by_digest(name) for name in names}
    every = [record for name in names for same in index[name].values() for record in same]
    runs = [record for record in every if record.seed is not None]
    done = [record for record in runs if record.status == "FINISHED"]
    yield f"# {papers.known_paper(paper).title}"
    yield f"\nFrom {masked(store.uri)}: {_counted(r.status.lower() for r in runs) or 'no runs'}."
    if not done:
        yield f"\nThe store holds no finished run of this paper: `reprod reproduce --paper {paper} --scale small`.\n"
        return
    drawn = {s: [needs(f.runs(s), store, index).complete for f in figures(paper) if s in f.scales] for s in SCALES}
    complete = ", ".join(f"{sum(there)} of {len(there)} at scale {scale}" for scale, there in drawn.items())
    for title, rows in _sections(paper, names, runs, done, complete):
        yield f"\n## {title}\n"
        yield from (f"- **{question}** {answer}" for question, answer in rows)
    yield ""


def _sections(
    paper: str, names: Sequence[str], runs: Sequence[Record], done: Sequence[Record], complete: str
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    of = {name: [record for record in done if record.experiment == name] for name in names}
    of = {name: records for name, records in of.items() if records}

    def each(answer: Callable[[list[Record]], str]) -> str:
        return "".join(f"\n  - `{name}`: {answer(records)}" for name, records in of.items())

    def tag(name: str) -> str:
        return _some(record.tags.get(f"reprod.{name}", "") for record in done)

    dirty = sum(record.tags.get("reprod.git_dirty") == "true" for record in done)
    kept = f"; {dirty} runs had uncommitted changes, kept as `provenance/uncommitted.diff`" if dirty else ""
    unfinished = len(runs) - len(done)
    commit, changed = project.git_state()
    here = (commit[:10] or "unknown") + (" with uncommitted changes" if changed else "")
    yield (
        "NeurIPS: experiments",
        [
            ("Claims.", f"`reprod claims --paper {paper} --scale SCALE`: each beside our number, with its verdict."),
            ("Code.", f"commits {_some(r.commit[:10] for r in done)}{kept}"),
            ("Environment.", f"requirements.lock {tag('lock')}; Python {tag('python')}; {_packages(done)}"),
            ("Commands.", f"`reprod reproduce --paper {paper} --scale SCALE`; every run's description names its own."),
            ("Data.", _data(done)),
            (
                "Settings.",
                f"every parameter of every run is in the store; ranges: `reprod run {next(iter(of))} -P help=`",
            ),
            ("How hyper-parameters were chosen.", f"{UNKNOWN}: docs/{paper}.md is the place."),
            ("Runs and seeds.", each(_seeds)),
            ("Error bars.", "95 % confidence intervals of the mean (Student's t) where there are at least two seeds."),
            (
                "Compute.",
                f"{each(_compute)}\n  - together: {duration(total_seconds(done))}; unfinished runs: {unfinished}",
            ),
            ("Hardware.", f"{_some(map(machine, done))}; threads: {tag('threads')}"),
            ("Number of parameters.", each(_sizes)),
            ("Dates.", f"{min(map(date, done))} to {max(map(date, done))} UTC"),
            ("Licences of data and code.", f"{UNKNOWN}: this package is MIT; the data sets have their own terms."),
            ("Memory, energy, carbon.", UNKNOWN),
            ("Safeguards, societal impact, human subjects.", f"{UNKNOWN}: yours to answer."),
        ],
    )
    yield (
        "ACM badges",
        [
            (
                "Artifacts available.",
                f"{UNKNOWN}: archive the checkout and an export (`reprod export --paper {paper}`).",
            ),
            ("Functional: documented.", f"docs/{paper}.md, README.md."),
            ("Functional: complete.", f"figures whose runs are all in the store: {complete}."),
            ("Functional: exercisable.", "`python3 bootstrap.py pytest` runs every experiment and draws every figure."),
            ("Reusable.", f"`reprod cite {next(iter(of))}`; checkout at commit {here}."),
            (
                "Results reproduced.",
                f"`reprod report --paper {paper}`; `reprod verify RUN_ID` repeats a run bit by bit.",
            ),
        ],
    )


def _seeds(records: Sequence[Record]) -> str:
    configurations = len({record.config.for_seed(0).digest() for record in records})
    scales = _counted(record.config.scale for record in records)
    return f"runs: {scales}; configurations: {configurations}; seeds: {_some(str(record.seed) for record in records)}"


def _compute(records: Sequence[Record]) -> str:
    longest = max((r.seconds for r in records if r.seconds == r.seconds), default=float("nan"))
    return f"{duration(total_seconds(records))} of wall time, the longest run {duration(longest)}"


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(Counter(words).items()))


def _some(words: Iterable[str], most: int = 8) -> str:
    """Distinct words, in order; the rest as a number."""
    found = sorted(set(filter(None, words)), key=lambda w: (not w.isdigit(), int(w) if w.isdigit() else 0, w))
    rest = len(found) - most
    return (", ".join(found[:most]) + (f" and {rest} more" if rest > 0 else "")) or UNKNOWN


def _packages(records: Iterable[Record]) -> str:
    versions = defaultdict(set)
    for record in records:
        for name, version in json.loads(record.tags.get("reprod.packages", "{}")).items():
            versions[name].add(version)
    return ", ".join(f"{name} {'/'.join(sorted(each))}" for name, each in versions.items()) or UNKNOWN


def _data(records: Iterable[Record]) -> str:
    prefix = "reprod.data."
    found = {
        (key.removeprefix(prefix), value) for r in records for key, value in r.tags.items() if key.startswith(prefix)
    }
    return "".join(f"\n  - {name}: sha256 `{digest}`" for name, digest in sorted(found)) or f"{UNKNOWN} (no data set)"


def _sizes(records: Sequence[Record]) -> str:
    """Parameters of the trained models: one run of each configuration tells."""
    sizes: set[int] = set()
    for record in {r.config.for_seed(0).digest(): r for r in records}.values():
        try:
            spec: dict[str, Any] = json.loads(record.path("model/weights/spec.json").read_text())
        except (FileNotFoundError, ValueError):  # none, or a damaged one
            continue
        sizes.add(int(spec["parameters"]))
    if not sizes:
        return f"{UNKNOWN} (it keeps no model)"
    return f"{min(sizes):,}" if len(sizes) == 1 else f"{min(sizes):,} to {max(sizes):,}"
