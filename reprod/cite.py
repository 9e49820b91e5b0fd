"""`reprod cite`: BibTeX of an experiment's paper, of the methods and data that it uses, and of this package."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from reprod import papers
from reprod.errors import BadInput

ALWAYS = ("paszke2019pytorch", "zaharia2018accelerating", "reprod")


def entries() -> dict[str, str]:
    """Every reference, by its key: ours, then those that papers from elsewhere bring."""
    files = [Path(__file__).parent / "references.bib"]
    for paper in papers.papers().values():
        if paper.bibliography:
            files.append(Path(importlib.import_module(paper.package).__file__ or "").parent / paper.bibliography)
    return {key: entry for file in reversed(files) for key, entry in _entries(file.read_text(encoding="utf-8"))}


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for entry in re.split(r"\n(?=@)", text):
        if found := re.match(r"@\w+\{([^,\s]+),", entry.strip()):
            yield found[1], entry.strip()


def keys(experiment: str) -> list[str]:
    """The paper first, then methods and data, then software."""
    paper = papers.experiments()[papers.known(experiment)]
    return list(dict.fromkeys([*paper.cite, *paper.experiments[experiment].cite, *ALWAYS]))


def bibtex(experiments: Sequence[str]) -> str:
    """The references of some experiments, each once. Raises `BadInput` for a key that no bibliography has."""
    known = entries()
    wanted = list(dict.fromkeys(key for name in experiments for key in keys(name)))
    if missing := [key for key in wanted if key not in known]:
        raise BadInput(
            f"no bibliography has {', '.join(missing)}: name it in the paper's `bibliography`, a BibTeX file"
        )
    return "\n\n".join(known[key] for key in wanted)
