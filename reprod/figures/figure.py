"""What a figure is: the runs that it needs, how it is drawn, what the paper claims about it. Side by side in one class.

    @figure("fig4d", source="Ott et al. 2021, figure 4 d", experiments=("cifar_ode",))
    class ToleranceSweep:
        '''Test accuracy of dopri5-trained networks under other tolerances.'''        # the caption

        def runs(self, scale: str) -> list[Config]:
            return [at_scale(CifarOde, scale, tol=tol, seeds=SEEDS[scale]) for tol in TOLERANCES[scale]]

        def draw(self, runs: Runs) -> Drawing:
            for config, records in runs:                  # one Record per finished seed
                ...
            return Drawing(fig, table)                    # a matplotlib Figure, and the plotted numbers as a frame

        def claims(self, runs: Runs) -> list[Claim]:      # may be left out
            ...

A figure never trains and reads nothing but the store. `runs` may return an empty list: a figure of theory alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from reprod import papers
from reprod.config import Config
from reprod.errors import BadInput, nearest
from reprod.figures.claims import UNDECIDED, Claim, Finding, check_unique
from reprod.papers import Paper

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

    from reprod.store import Record, Store


@dataclass
class Drawing:
    """A matplotlib figure, the plotted numbers in long form, and what the reader must know about these runs."""

    figure: MplFigure
    table: pd.DataFrame
    remarks: str = ""


class Runs:
    """The finished runs of a figure: iterate for (config, its records, one per finished seed)."""

    def __init__(self, found: Sequence[tuple[Config, list[Record]]], scale: str, failed: Sequence[str] = ()):
        self.found = list(found)
        self.scale = scale
        self.failed = tuple(failed)

    def __iter__(self) -> Iterator[tuple[Any, list[Record]]]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def where(self, **parameters: Any) -> Runs:
        """Those whose config has these values."""
        kept = [(c, r) for c, r in self.found if all(getattr(c, k, None) == v for k, v in parameters.items())]
        return Runs(kept, self.scale, self.failed)

    def of(self, experiment: str) -> Runs:
        return Runs([(c, r) for c, r in self.found if c.experiment == experiment], self.scale, self.failed)

    @property
    def records(self) -> list[Record]:
        return [record for _, records in self.found for record in records]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(record.id for record in self.records)


class Draws(Protocol):
    def runs(self, scale: str) -> list[Config]: ...
    def draw(self, runs: Runs) -> Drawing: ...


@dataclass(frozen=True)
class Figure:
    """A registered figure."""

    id: str
    paper: str
    source: str
    experiments: tuple[str, ...]
    caption: str
    what: Draws

    @property
    def short(self) -> str:
        """The id without its paper."""
        return self.id.partition(".")[2]

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales at which it can be drawn: all but `medium`, which only figures have that say so."""
        return getattr(self.what, "scales", ("paper", "small", "smoke"))

    def runs(self, scale: str) -> list[Config]:
        if scale not in self.scales:
            raise BadInput(f"{self.id} has no scale {scale}; it has {', '.join(self.scales)}")
        return self.what.runs(scale)

    @property
    def claiming(self) -> bool:
        return hasattr(self.what, "claims")

    def claims(self, runs: Runs) -> list[Claim]:
        """What the paper says, with our samples. Raises `BadInput` for two of the same name."""
        found = list(self.what.claims(runs)) if self.claiming else []  # type: ignore[attr-defined]
        check_unique(found, self.id)
        return found

    def findings(self, runs: Runs) -> list[Finding]:
        """The claims, judged."""
        scale = runs.scale if len(runs) else "theory"
        judged = [claim.judge(scale) for claim in self.claims(runs)]
        return [f if f.run_ids else replace(f, run_ids=runs.ids) for f in judged]

    def unchecked(self, reason: str) -> list[Finding]:
        """One row that says why there is no verdict: runs are missing, an array is damaged."""
        if not self.claiming:
            return []
        row = Finding("all claims", self.caption, self.source, "", "", "", UNDECIDED, reason=reason)
        return [row]


_REGISTRY: dict[str, dict[str, Figure]] = {}


def figure(id: str, *, source: str, experiments: Sequence[str] = ()) -> Callable[[type], type]:
    """Register a class as a figure of the paper whose `figures` module it stands in; its docstring is the caption.

    `id` is short and the paper's own ("fig4a"); everywhere else it has the paper's name before it.
    """

    def register(cls: type) -> type:
        paper = _paper_of(cls.__module__)
        caption = " ".join((cls.__doc__ or "").split())
        of_paper = _REGISTRY.setdefault(paper, {})
        whole = f"{paper}.{id}"
        if whole in of_paper and type(of_paper[whole].what).__module__ != cls.__module__:
            raise ValueError(f"two figures are called {whole}")
        of_paper[whole] = Figure(whole, paper, source, tuple(experiments), caption, cls())
        return cls

    return register


def _paper_of(module: str) -> str:
    for paper in papers.papers().values():
        if paper.figures and (module + ".").startswith(paper.figures + "."):
            return paper.name
    raise ValueError(f"no paper names {module} as the module of its figures")


def figures(paper: str | None = None, experiment: str | None = None, id: str | None = None) -> list[Figure]:
    """The figures of a paper, of an experiment, or the one of that name; a name without its paper is understood where
    it is unique. Raises `BadInput` where there is none."""
    chosen = [papers.known_paper(paper)] if paper is not None else list(papers.papers().values())
    if experiment is not None:
        chosen = [papers.experiments()[papers.known(experiment)]]
    found: list[Figure] = []
    for each in chosen:
        if each.figures:
            _register(each)
        found += _REGISTRY.get(each.name, {}).values()
    if experiment is not None:
        found = [f for f in found if experiment in f.experiments]
    return found if id is None else [_named(id, found)]


def _register(paper: Paper) -> None:
    """Import the module of a paper's figures. One from elsewhere that cannot be imported is named and passed over."""
    try:
        importlib.import_module(paper.figures)
    except Exception as error:
        if paper.name in papers.OURS:
            raise
        papers.complain(f"the figures of {paper.name} ({paper.figures}) cannot be imported: {error}; passed over")


def _named(id: str, among: Sequence[Figure]) -> Figure:
    same = [f for f in among if id in (f.id, f.short)]
    if len(same) == 1:
        return same[0]
    names = [f.id for f in same or among]
    if same:
        raise BadInput(f"{id!r} is a figure of several papers; say which: {', '.join(names)}")
    near = nearest(id, [f.short for f in among]) or nearest(id, names) or "."
    raise BadInput(f"there is no figure {id!r}{near} There are: {', '.join(names) or 'none'}")


@dataclass
class Needs:
    """What the store has of a figure's runs."""

    found: list[tuple[Config, list[Record]]] = field(default_factory=list)
    missing: list[Config] = field(default_factory=list)  # per configuration, with the missing seeds only
    failed: list[Record] = field(default_factory=list)
    unfinished: list[Record] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.missing and all(records for _, records in self.found)


def needs(configs: Sequence[Config], store: Store, index: dict[str, dict[str, list[Record]]] | None = None) -> Needs:
    """Look up every seed of every configuration. A seed that failed (diverged) counts as done, but not as a result."""
    from reprod.store.reader import seed_state

    index = {} if index is None else index
    result = Needs()
    for config in configs:
        if config.experiment not in index:
            index[config.experiment] = store.by_digest(config.experiment)
        records, lacking = [], []
        for seed in config.seeds:
            state, record = seed_state(config, seed, index[config.experiment])
            if state == "done" and record is not None:
                records.append(record)
            elif state == "failed" and record is not None:
                result.failed.append(record)
            else:
                lacking.append(seed)
                result.unfinished += [record] if record else []
        result.found.append((config, records))
        if lacking:
            result.missing.append(replace(config, seeds=tuple(lacking)))
    return result


def largest_scale(chosen: Figure, store: Store, index: dict[str, dict[str, list[Record]]]) -> str:
    """The largest scale for which all runs are there; `small` where there is none."""
    return next((scale for scale in chosen.scales if needs(chosen.runs(scale), store, index).complete), "small")


def gather(chosen: Figure, scale: str, store: Store, index: dict[str, dict[str, list[Record]]] | None = None) -> Runs:
    """The runs of a figure. Raises `BadInput` that names the missing ones and the command that makes them."""
    have = needs(chosen.runs(scale), store, index)
    if not have.complete:
        total = sum(len(config.seeds) for config, _ in have.found)
        lacking = sum(len(config.seeds) for config in have.missing)
        lines = [f"{chosen.id} at scale {scale} lacks {lacking} of {total} runs; these commands make them:"]
        lines += [f"  {config.command()}" for config in have.missing]
        lines += [f"  (failed) {record.name}: {record.failure}" for record in have.failed]
        lines += [f"or all at once: reprod reproduce --figure {chosen.id} --scale {scale}"]
        raise BadInput("\n".join(lines))
    return Runs(have.found, scale, [f"{record.name} seed {record.seed}: {record.failure}" for record in have.failed])


def draw(chosen: Figure, runs: Runs) -> Drawing:
    """Draw a figure in the common look."""
    import matplotlib

    matplotlib.use("Agg")
    from reprod.figures import style

    with style.applied():
        return chosen.what.draw(runs)


def write(chosen: Figure, runs: Runs, folder: Path) -> list[Path]:
    """Draw a figure into `folder` as PDF, PNG and CSV; ids of the runs and commits go into the files' metadata."""
    import matplotlib.pyplot as plt

    drawing = draw(chosen, runs)
    paths = save(chosen, runs, drawing, folder)
    plt.close(drawing.figure)
    return paths


def save(chosen: Figure, runs: Runs, drawing: Drawing, folder: Path, endings: str = "pdf png csv") -> list[Path]:
    """Write a drawn figure; `endings` may also name svg."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{chosen.id}-{runs.scale}" if len(runs) else chosen.id
    facts = _facts(chosen, runs, drawing)
    words = "; ".join(f"{key}: {value}" for key, value in facts.items())
    metadata: dict[str, dict] = {
        "pdf": {"Title": facts["figure"], "Subject": facts["source"], "Keywords": words, "CreationDate": None},
        "png": {"Software": "reprod", "Title": facts["figure"], **facts},
        "svg": {"Title": facts["figure"], "Description": words, "Date": None},
    }
    from reprod.figures import style

    paths = []
    for ending in endings.split():
        path = folder / f"{name}.{ending}"
        paths.append(path)
        if ending == "csv":
            with open(path, "w", newline="", encoding="utf-8") as file:
                file.writelines(f"# {key}: {value}\n" for key, value in facts.items())
                drawing.table.to_csv(file, index=False)
        else:
            with style.applied():
                drawing.figure.savefig(path, dpi=200, metadata=metadata[ending])
    return paths


def draw_all(
    chosen: Sequence[Figure], scale: str | None, store: Store, folder: Path, *, log: bool
) -> tuple[int, list[str]]:
    """Draw figures into `folder`, and keep them in the store where `log`. What goes wrong with one is said, and the
    others are drawn all the same. Without a `scale` each is drawn at its largest.
    (how many were drawn, what went wrong)"""
    index: dict[str, dict[str, list[Record]]] = {}
    drawn, complaints = 0, []
    for each in chosen:
        try:
            runs = gather(each, scale or largest_scale(each, store, index), store, index)
            paths = write(each, runs, folder)
        except BadInput as error:
            complaints.append(str(error))
            continue
        except Exception as error:  # one figure that cannot be drawn must not cost the others
            complaints.append(f"{each.id} cannot be drawn ({type(error).__name__}: {error})")
            continue
        drawn += 1
        print(f"{each.id}: {', '.join(map(str, paths))}")
        if log:
            try:
                keep(each, runs, paths, store)
            except Exception as error:
                complaints.append(f"{each.id} is drawn, but not kept in the store: {error}")
    for complaint in dict.fromkeys(complaints):
        print(complaint)
    return drawn, complaints


def keep(chosen: Figure, runs: Runs, paths: Sequence[Path], store: Store) -> None:
    """Keep drawn files in the store, where the MLflow page shows them: caption, claims and runs in the description."""
    from reprod.store import writer

    scale = runs.scale if len(runs) else "theory"
    claims = [f"| {c.statement} | {c.published} | {c.ours} | {c.verdict} |" for c in chosen.findings(runs)]
    head = ["| claim | published | ours | verdict |", "|---|---|---|---|"] if claims else []
    links = [f"[{r.name}](#/experiments/{r.entity.info.experiment_id}/runs/{r.id})" for r in runs.records[:50]]
    more = [f"and {len(runs.records) - 50} more"] if len(runs.records) > 50 else []
    command = f"reprod reproduce --figure {chosen.id}" + (f" --scale {runs.scale}" if runs.scale != "paper" else "")
    note = [f"**{chosen.source}.** {chosen.caption}", "\n".join([*head, *claims]), f"Make it again: `{command}`"]
    note += [f"Runs behind it: {', '.join([*links, *more])}"] if links else []
    tags = {"reprod.paper": chosen.paper, "reprod.figure": chosen.id, "reprod.scale": scale,
            "mlflow.note.content": "\n\n".join(filter(None, note))[:8000]}  # fmt: skip
    writer.log_figure(store.client, tags, paths, runs.records)


def _facts(chosen: Figure, runs: Runs, drawing: Drawing) -> Mapping[str, str]:
    from reprod import project

    commit, dirty = project.git_state()
    commits = sorted({record.commit[:10] for record in runs.records if record.commit})
    return {
        "figure": chosen.id,
        "source": chosen.source,
        "scale": runs.scale if len(runs) else "theory",
        "runs": " ".join(runs.ids) or "none",
        "run commits": " ".join(commits) or "none",
        "drawn at commit": commit[:10] + (" with uncommitted changes" if dirty else ""),
        **({"failed runs": " | ".join(runs.failed)} if runs.failed else {}),
        **({"remarks": drawing.remarks} if drawing.remarks else {}),
    }
