"""`reprod report`: what the store shows, as a static site that opens from a file and needs no network.

Every figure is drawn at the largest scale for which the store has all of its runs; what lacks runs is listed with the
command that makes them.
"""

from __future__ import annotations

import datetime
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprod import __version__, project
from reprod import papers as papers_
from reprod.config import SCALES, Config
from reprod.errors import BadInput
from reprod.figures.claims import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, UNDECIDED, Finding
from reprod.figures.figure import Figure, Runs, draw, figures, gather, largest_scale, needs, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

    from reprod.store import Record, Store

HERE = Path(__file__).parent
LARGEST_SVG = 200_000  # bytes; a larger figure is shown as PNG
VERDICTS = {REPRODUCED: "yes", NOT_REPRODUCED: "no", UNDECIDED: "few", NOT_COMPARABLE: "other"}  # verdict -> style


@dataclass
class Shown:
    """A figure on its page: drawn (`image`), or with what it lacks (`missing`)."""

    figure: Figure
    scale: str
    runs: Runs | None = None
    claims: list[Finding] = field(default_factory=list)
    image: str = ""
    size: tuple[int, int] = (0, 0)
    alt: str = ""
    remarks: str = ""
    files: dict[str, str] = field(default_factory=dict)
    error: str = ""
    missing: list[Config] = field(default_factory=list)
    held: str = ""

    @property
    def rebuilt(self) -> bool:
        return bool(self.image)

    @property
    def level(self) -> str:
        return self.scale if self.runs is None or len(self.runs) else "theory"

    @property
    def command(self) -> str:
        return f"reprod reproduce --figure {self.figure.id}" + (
            "" if self.scale == "paper" else f" --scale {self.scale}"
        )


@dataclass
class Paper:
    """A paper's page."""

    name: str
    title: str
    shown: list[Shown]

    @property
    def rebuilt(self) -> list[Shown]:
        return [each for each in self.shown if each.rebuilt]

    @property
    def missing(self) -> list[Shown]:
        return [each for each in self.shown if not each.rebuilt]

    @property
    def verdicts(self) -> dict[str, int]:
        counts = Counter(claim.verdict for each in self.shown for claim in each.claims)
        return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}

    @property
    def scales(self) -> dict[str, int]:
        counts = Counter(each.level for each in self.rebuilt)
        return {scale: counts[scale] for scale in (*SCALES, "theory") if counts[scale]}

    @property
    def records(self) -> list[Record]:
        """Every run behind a figure, once."""
        found = {record.id: record for each in self.shown if each.runs for record in each.runs.records}
        return sorted(found.values(), key=lambda r: (r.experiment, r.config.title(), r.seed or 0))

    @property
    def machines(self) -> list[str]:
        return sorted({machine(record) for record in self.records})

    @property
    def commits(self) -> list[str]:
        return sorted({record.commit[:10] for record in self.records if record.commit})

    @property
    def newest(self) -> str:
        return max((date(record) for record in self.records), default="")

    @property
    def seconds(self) -> float:
        return total_seconds(self.records)


MARK = ".reprod-report"  # in the folder of a report: the files that it wrote, one a line


def build(store: Store, out: Path, *, scale: str | None = None, paper: str | None = None) -> list[Paper]:
    """Write the site into `out`. Raises `BadInput` for a folder that holds something else: nothing is removed but what
    an earlier report wrote."""
    before = _written(project.writable(out, "--out"))
    chosen = figures(paper)
    index: dict[str, Any] = {}
    papers = []
    for name in dict.fromkeys(each.paper for each in chosen):
        folder = out / name
        for file in [file for file in before if file.partition("/")[0] == name]:
            (out / file).unlink(missing_ok=True)
        shown = []
        for each in (f for f in chosen if f.paper == name):
            shown.append(show(each, scale or largest_scale(each, store, index), store, index, folder))
            print(f"{each.id}: {shown[-1].level if shown[-1].rebuilt else shown[-1].error or 'lacks runs'}", flush=True)
        papers.append(Paper(name, papers_.known_paper(name).title, shown))
    drawn = {file for each in papers for shown in each.shown for file in shown.files.values()}
    files = {*(file for file in before if (out / file).exists()), *drawn, *_write(papers, out)}
    (out / MARK).write_text("".join(f"{file}\n" for file in sorted(files)), encoding="utf-8")
    return papers


def _written(out: Path) -> list[str]:
    """What an earlier report wrote into this folder. Raises `BadInput` for a folder of somebody else."""
    mark = out / MARK
    if not mark.exists():
        if any(out.iterdir()):
            raise BadInput(f"--out {out}: the folder is not empty, and no earlier report (it has no {MARK})")
        mark.touch()  # an interrupted report is one, too
    lines = mark.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and ".." not in Path(line).parts and not Path(line).is_absolute()]


def show(chosen: Figure, scale: str, store: Store, index: dict, folder: Path) -> Shown:
    """Draw a figure into `folder` and check its claims, or say what it lacks."""
    import matplotlib.pyplot as plt

    result = Shown(chosen, scale)
    have = needs(chosen.runs(scale), store, index)
    if not have.complete:
        result.missing = have.missing
        lacking = sum(len(config.seeds) for config in have.missing)
        result.held = ", ".join(f"{s} {_held(chosen, s, store, index)}" for s in chosen.scales)
        reason = f"{lacking} run{'s are' if lacking > 1 else ' is'} missing at scale {scale}"
        result.claims = chosen.unchecked(reason)
        return result
    result.runs = gather(chosen, scale, store, index)
    try:
        drawing = draw(chosen, result.runs)
        result.claims = chosen.findings(result.runs)
    except Exception as error:  # one figure that cannot be drawn must not cost the site
        result.error = f"{type(error).__name__}: {error}"
        return result
    result.alt, result.remarks = describe(drawing.figure), drawing.remarks
    svg, pdf, table = save(chosen, result.runs, drawing, folder, "svg pdf csv")
    picture = svg
    if svg.stat().st_size > LARGEST_SVG:
        svg.unlink()
        (picture,) = save(chosen, result.runs, drawing, folder, "png")
    plt.close(drawing.figure)
    result.image = f"{folder.name}/{picture.name}"
    result.size = _size(picture)
    result.files = {path.suffix[1:].upper(): f"{folder.name}/{path.name}" for path in (picture, pdf, table)}
    return result


def _held(chosen: Figure, scale: str, store: Store, index: dict) -> str:
    have = needs(chosen.runs(scale), store, index)
    wanted = sum(len(config.seeds) for config, _ in have.found)
    return f"{wanted - sum(len(config.seeds) for config in have.missing)} of {wanted}"


def describe(figure: MplFigure) -> str:
    """The alternative text: for each panel its title, axes and curves, as they are drawn."""
    panels = []
    for ax in figure.axes:
        words = [ax.get_title() or ax.get_title("left")]
        x, y = ax.get_xlabel(), ax.get_ylabel()
        words.append(f"{y or 'values'} against {x}" if x else y)
        words.append("; ".join(t for t in ax.get_legend_handles_labels()[1] if not t.startswith("_"))[:160])
        for table in ax.tables:
            cells = table.get_celld()
            heads = ", ".join(cell.get_text().get_text() for (row, _), cell in sorted(cells.items()) if row == 0)
            words.append(f"a table of {max(row for row, _ in cells)} rows with the columns {heads}")
        panels.append(": ".join(" ".join(w.replace("$", "").split()) for w in words if w))
    known = [text for text in dict.fromkeys(panels) if text] or ["Its axes have no labels"]
    head = "Plot" if len(figure.axes) == 1 else f"{len(figure.axes)} panels"
    return f"{head}. {'. '.join(known[:12])}"[:900]


def _size(picture: Path) -> tuple[int, int]:
    """Width and height in CSS pixels."""
    if picture.suffix == ".svg":
        import re

        head = picture.read_text(encoding="utf-8")[:2000]
        width, height = (float(re.search(rf'{name}="([\d.]+)pt"', head)[1]) for name in ("width", "height"))  # type: ignore[index]
        return round(width * 4 / 3), round(height * 4 / 3)
    import matplotlib.pyplot as plt

    height, width = plt.imread(picture).shape[:2]
    return round(width * 96 / 200), round(height * 96 / 200)


# -- facts about runs -----------------------------------------------------------------------------------------------


def machine(record: Record) -> str:
    device, cpu = record.tags.get("reprod.device", ""), record.tags.get("reprod.cpu", "unknown processor")
    return cpu if device in ("", "cpu") else f"{device}; {cpu}"


def date(record: Record) -> str:
    ended = record.entity.info.end_time or record.entity.info.start_time
    return datetime.datetime.fromtimestamp(ended / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def total_seconds(records: Iterable[Record]) -> float:
    """Wall time of these runs; seeds that trained as one batch count once."""
    batches: dict[str, float] = {}
    for record in records:
        key = record.parent_id or record.id
        key = key if record.parent_id and record.seconds == record.seconds else record.id
        together = f"{key} {record.config.for_seed(0).digest()}"
        batches[together] = max(batches.get(together, 0.0), record.seconds if record.seconds == record.seconds else 0)
    return sum(batches.values())


def duration(seconds: float) -> str:
    if seconds != seconds:
        return "unknown"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def parameters(config: Config) -> str:
    """What a run differs in from its scale's defaults."""
    given = {
        name: text for name, text in config.given().items() if name not in ("scale", "seeds", "data_dir", "device")
    }
    return " ".join(f"{name}={text}" for name, text in given.items()) or "defaults"


def anchor(*words: str) -> str:
    return "-".join("".join(c if c.isalnum() else "-" for c in word) for word in words)


# -- pages ----------------------------------------------------------------------------------------------------------


def _write(papers: Sequence[Paper], out: Path) -> list[str]:
    """Write the pages; their names."""
    import jinja2

    out.mkdir(parents=True, exist_ok=True)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    commit, dirty = project.git_state()
    environment.globals.update(
        papers=papers, verdict_style=VERDICTS, version=__version__, python=sys.version.split()[0],
        commit=commit[:10] + (" with uncommitted changes" if dirty else ""),
        today=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        duration=duration, parameters=parameters, machine=machine, date=date, anchor=anchor,
        total_seconds=total_seconds,
    )  # fmt: skip
    pages: list[tuple[str, str, dict[str, Any]]] = [
        ("index.html", "index.html", {}),
        ("claims.html", "claims.html", {}),
    ]
    for paper in papers:
        pages.append((f"{paper.name}.html", "paper.html", {"paper": paper}))
        pages.append((f"{paper.name}-runs.html", "runs.html", {"paper": paper}))
    for name, template, values in pages:
        (out / name).write_text(environment.get_template(template).render(page=name, **values), encoding="utf-8")
    for name in ("style.css", "script.js"):
        shutil.copy(HERE / name, out / name)
    return [*(name for name, _, _ in pages), "style.css", "script.js"]
