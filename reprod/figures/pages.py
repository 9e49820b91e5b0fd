"""`reprod docs`: what the pages say of our results is written by the archive.

    <!-- reprod: claims le_sde -->
    (a table, written anew every time)
    <!-- /reprod -->

`claims PAPER`, `verdicts [PAPER]`, `figure ID`, `runs [PAPER]` and `archives` can stand there. Prose around them may
interpret; its numbers have to be among the generated ones, or in a block that names the benchmark which printed them:

    <!-- measured: python benchmarks/le_sde.py -->
    ...
    <!-- /measured -->
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprod import papers
from reprod.errors import BadInput
from reprod.figures.claims import VERDICTS
from reprod.figures.figure import Drawing, Figure, Runs, draw, figures, gather, largest_scale
from reprod.figures.report import date, describe, duration, machine, total_seconds
from reprod.store.archive.store import ArchiveStore

BLOCK = re.compile(r"(<!-- reprod: ([^>]*?) -->\n)(.*?)(<!-- /reprod -->)", re.S)
MEASURED = re.compile(r"<!-- measured: [^>]+ -->\n.*?<!-- /measured -->", re.S)
NUMBER = re.compile(r"(?<![\w./-])-?\d*\.\d+(?![\w.]*\w)|(?<![\w.])\d+(?= %)")  # decimals and percentages
LARGEST_PICTURE = 240_000  # bytes


@dataclass
class Pages:
    """Pages against an archive. What is drawn or judged once serves all pages."""

    store: ArchiveStore
    pictures: Path
    index: dict = field(default_factory=dict)
    _drawn: dict[str, tuple[Runs, Drawing]] = field(default_factory=dict)

    def rendered(self, page: Path) -> str:
        """The text of a page with its blocks as the archive has them. Raises `BadInput` for a block that is not known,
        and for a figure that the archive does not hold."""

        def block(found: re.Match) -> str:
            words = found[2].split()
            if not words or words[0] not in WRITERS:
                raise BadInput(f"{page}: {found[1].strip()}: expected one of {', '.join(WRITERS)}")
            return found[1] + WRITERS[words[0]](self, page, *words[1:]) + "\n" + found[4]

        return BLOCK.sub(block, page.read_text(encoding="utf-8"))

    def held(self, paper: str | None) -> list[Figure]:
        """The figures that the archive has runs of, or that need none."""
        names = [papers.known_paper(paper).name] if paper else list(papers.papers())
        known = {each["figure"] for name in names for each in self._figures(name)}
        return [each for name in names for each in figures(name) if each.id in known]

    def _figures(self, paper: str) -> list[dict[str, Any]]:
        archive = self.store.archive(paper)
        return archive.figures if archive else []

    def runs(self, figure: Figure) -> Runs:
        return gather(figure, largest_scale(figure, self.store, self.index), self.store, self.index)

    def drawn(self, figure: Figure) -> tuple[Runs, Drawing]:
        if figure.id not in self._drawn:
            runs = self.runs(figure)
            self._drawn[figure.id] = runs, draw(figure, runs)
        return self._drawn[figure.id]

    @property
    def figures_drawn(self) -> list[Figure]:
        return [each for each in figures() if each.id in self._drawn]

    def picture(self, figure: Figure) -> Path:
        return self.pictures / f"{figure.id}.png"

    def current(self, figure: Figure) -> bool:
        """Whether the picture on disk shows these runs and numbers."""
        from PIL import Image

        path = self.picture(figure)
        if not path.exists():
            return False
        with Image.open(path) as image:
            return image.info.get("numbers") == self._numbers(figure)

    def _numbers(self, figure: Figure) -> str:
        runs, drawing = self.drawn(figure)
        text = " ".join(runs.ids) + drawing.table.to_csv(index=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def paint(self, figure: Figure) -> None:
        """Write the picture, small enough for a page."""
        from reprod.figures import style

        self.pictures.mkdir(parents=True, exist_ok=True)
        path = self.picture(figure)
        about = {"Software": "reprod", "Title": figure.id, "numbers": self._numbers(figure)}
        for dpi in (120, 90, 70, 50):
            with style.applied():
                self.drawn(figure)[1].figure.savefig(path, dpi=dpi, metadata=about)
            if path.stat().st_size <= LARGEST_PICTURE:
                return


# -- what can stand between the marks ---------------------------------------------------------------------------------


def _claims(pages: Pages, page: Path, paper: str) -> str:
    lines = ["| where | scale | claim | published | ours (95 % interval) | n | verdict |", "|---" * 7 + "|"]
    for figure in pages.held(paper):
        if not figure.claiming:
            continue
        runs = pages.runs(figure)
        for claim in figure.findings(runs):
            verdict = claim.verdict + (f" ({claim.reason})" if claim.reason else "")
            where, scale = claim.source or figure.source, runs.scale if len(runs) else "theory"
            cells = (where, scale, claim.statement, claim.published, claim.ours, claim.n or "", verdict)
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _verdicts(pages: Pages, page: Path, paper: str | None = None) -> str:
    lines = ["| paper | figures | runs | computing time | " + " | ".join(VERDICTS) + " |"]
    lines += ["|---" * (4 + len(VERDICTS)) + "|"]
    for name in [paper] if paper else pages.store.papers:
        shown = pages.held(name)
        records = {r.id: r for figure in shown for r in pages.runs(figure).records}
        counts = Counter(claim.verdict for f in shown if f.claiming for claim in f.findings(pages.runs(f)))
        cells = [f"`{name}`", len(shown), len(records), duration(total_seconds(records.values()))]
        lines.append("| " + " | ".join(map(str, [*cells, *(counts[verdict] for verdict in VERDICTS)])) + " |")
    return "\n".join(lines)


def _figure(pages: Pages, page: Path, id: str) -> str:
    (figure,) = figures(papers.papers()[id.partition(".")[0]].name if "." in id else None, None, id)
    runs, drawing = pages.drawn(figure)
    path = pages.picture(figure)
    where = Path(os.path.relpath(path, page.parent)).as_posix()
    made = f"scale {runs.scale}, {len(runs.records)} runs" if len(runs) else "theory"
    remarks = f" {drawing.remarks}" if drawing.remarks else ""
    alt = describe(drawing.figure).replace("[", "(").replace("]", ")")
    return f"![{alt}]({where})\n\n*{figure.source} ({made}): {figure.caption}{remarks}*"


def _runs(pages: Pages, page: Path, paper: str | None = None) -> str:
    lines = ["| figure | scale | runs | computing time | commit | machine | made |", "|---|---|---|---|---|---|---|"]
    for figure in pages.held(paper):
        runs = pages.runs(figure)
        records = runs.records
        commits = ", ".join(sorted({record.commit[:10] for record in records}))
        days = sorted({date(record)[:10] for record in records})
        cells = (
            f"`{figure.id}`", runs.scale if len(runs) else "theory", len(records), duration(total_seconds(records)),
            commits, "; ".join(sorted({machine(record) for record in records})),
            " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        )  # fmt: skip
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _archives(pages: Pages, page: Path) -> str:
    lines = ["| file | runs | bytes | sha256 |", "|---|---|---|---|"]
    for archive in pages.store.all:
        size = archive.path.stat().st_size
        lines.append(f"| `archive/{archive.path.name}` | {len(archive.runs)} | {size:,} | `{archive.sha256}` |")
    return "\n".join(lines)


WRITERS: dict[str, Callable[..., str]] = {
    "claims": _claims, "verdicts": _verdicts, "figure": _figure, "runs": _runs, "archives": _archives,
}  # fmt: skip


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


# -- all pages --------------------------------------------------------------------------------------------------------


def all_pages(root: Path) -> list[Path]:
    return [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.exists()]


def update(root: Path, store: ArchiveStore, check: bool) -> Iterator[str]:
    """Write the blocks and pictures of all pages anew, or (`check`) only name those that are not as the archive has
    them."""
    pages = Pages(store, root / "docs" / "images")
    for page in all_pages(root):
        text = page.read_text(encoding="utf-8")
        if not BLOCK.search(text):
            continue
        new = pages.rendered(page)
        if new != text:
            yield str(page.relative_to(root))
            if not check:
                page.write_text(new, encoding="utf-8")
        for number in stray_numbers(new):
            yield f"{page.relative_to(root)} has the number {number}, which neither the archive nor a benchmark gives"
    for figure in pages.figures_drawn:
        if not pages.current(figure):
            yield str(pages.picture(figure).relative_to(root))
            if not check:
                pages.paint(figure)


def stray_numbers(text: str) -> list[str]:
    """Decimals and percentages of a page's prose that stand in none of its generated or measured blocks."""
    given = " ".join([*(found[3] for found in BLOCK.finditer(text)), *MEASURED.findall(text)])
    known = {_plain(number) for number in re.findall(r"-?\d*\.?\d+", given)}
    prose = MEASURED.sub("", BLOCK.sub("", text))
    prose = re.sub(r"^ *```.*?^ *```|`[^`]*`|\]\([^)]*\)|https?://\S+|arXiv[: ]\S+", " ", prose, flags=re.S | re.M)
    return [number for number in NUMBER.findall(prose) if _plain(number) not in known]


def _plain(number: str) -> str:
    sign, digits = ("-", number[1:]) if number.startswith("-") else ("", number)
    return f"{sign}0{digits}" if digits.startswith(".") else number
