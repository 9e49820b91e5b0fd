"""`reprod archive ...` and `reprod restore`: the runs of record in files that travel with the checkout."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from reprod.config import scale_known
from reprod.errors import BadInput
from reprod.options import Json, Uri

app = typer.Typer(help="The runs of record, in files that travel with the checkout.", no_args_is_help=True)


@app.command()
def add(
    paper: Annotated[str | None, typer.Option(help="all figures of this paper")] = None,
    figure: Annotated[str | None, typer.Option("--figure", help="one figure, as `reprod list` names it")] = None,
    scale: Annotated[str | None, typer.Option(help="default: the largest of which the store has all runs")] = None,
    tracking_uri: Uri = None,
) -> int:
    """Put the runs behind figures into the archive, with all that the figures and their claims read."""
    from reprod.figures import archiving
    from reprod.figures.figure import figures
    from reprod.store.archive.store import folder
    from reprod.store.archive.take import Watched

    if paper is None and figure is None:
        raise BadInput("say what: --paper NAME or --figure ID")
    if scale is not None:
        scale_known(scale)
    chosen = figures(paper, None, figure)
    if scale is not None and figure is None:
        chosen = [each for each in chosen if scale in each.scales]
    said = []
    for sentence in archiving.add(chosen, scale, Watched(tracking_uri), folder()):
        said.append(sentence)
        print(sentence, flush=True)
    refused = sum(sentence.startswith("not added") for sentence in said)
    return 0 if not refused else 2 if refused == len(chosen) else 1


@app.command(name="list")
def list_(
    paper: Annotated[str | None, typer.Option(help="this paper only")] = None,
    runs: Annotated[bool, typer.Option("--runs", help="every run, not only the figures")] = False,
    as_json: Json = False,
) -> int:
    """Say what the archive holds: figures, scales, commits, machines, times, sizes."""
    from reprod.figures.archiving import as_data, listing
    from reprod.store.archive.store import ArchiveStore, folder

    store = ArchiveStore(folder())
    if as_json:
        print(json.dumps(as_data(store, paper), indent=1))
        return 0
    for line in listing(store, paper, runs):
        print(line)
    return 0


@app.command()
def check(
    paper: Annotated[str | None, typer.Option(help="runs of this paper")] = None,
    run: Annotated[list[str] | None, typer.Option("--run", help="this run; may be repeated")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="so many runs, drawn at random")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every run")] = False,
    under: Annotated[float | None, typer.Option(min=0, help="pass over what took longer, in seconds")] = None,
) -> int:
    """Execute archived runs again and compare every bit; without a choice the quickest run of every experiment."""
    import math
    from collections import Counter

    from reprod import papers
    from reprod.jobs import replay
    from reprod.store.archive.store import ArchiveStore

    if sum([run is not None, sample is not None, everything]) > 1:
        raise BadInput("--run, --sample and --all: say one of them")
    store = ArchiveStore()
    if paper is not None and papers.known_paper(paper).name not in store.papers:
        raise BadInput(f"there is no archive of {paper}; there are: {', '.join(store.papers)}")
    if run is not None:
        chosen = [store.get(run_id) for run_id in run]
    else:
        units = replay.units(store, [paper] if paper else store.papers)
        chosen = units if everything else replay.sample(units, sample) if sample else replay.quickest(units)
    counts: Counter[str] = Counter()
    for outcome in replay.check(chosen, store, math.inf if under is None else under):
        counts[outcome.verdict] += 1
        print(outcome.line, flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no runs")
    return 1 if counts[replay.DIFFERENT] else 0


def restore(
    paper: Annotated[str | None, typer.Option(help="the runs of this paper; default: of all")] = None,
    source: Annotated[str | None, typer.Option("--from", help="a file or URL; default: the archive here")] = None,
    digest: Annotated[str | None, typer.Option("--sha256", help="what the file of --from must have")] = None,
    tracking_uri: Uri = None,
) -> int:
    """Bring the archived runs into the store, as if they had been made here. It can be repeated."""
    from reprod import papers
    from reprod.store.archive.format import Archive
    from reprod.store.archive.restore import fetch
    from reprod.store.archive.restore import restore as restore_
    from reprod.store.archive.store import archives, folder

    if digest is not None and source is None:
        raise BadInput("--sha256 belongs to --from")
    if source is not None:
        chosen = [Archive(fetch(source, digest))]
        if paper is not None and chosen[0].paper != paper:
            raise BadInput(f"--from {source}: that is an archive of {chosen[0].paper}, not of {paper}")
    else:
        there = archives()
        if paper is not None and papers.known_paper(paper).name not in there:
            raise BadInput(f"there is no archive of {paper} in {folder()}; there are: {', '.join(there) or 'none'}")
        chosen = [Archive(path) for name, path in there.items() if paper in (None, name)]
        if not chosen:
            raise BadInput(f"there is no archive in {folder()}")
    done = restore_(chosen, tracking_uri)
    ids = ", under new ids, for a server chooses them (the tag reprod.archived_id has the old)" if done.renamed else ""
    print(f"{done.new} runs restored{ids if done.new else ''}, {done.there} were there")
    return 0


def docs(
    check_: Annotated[bool, typer.Option("--check", help="only name what is not as the archive has it")] = False,
) -> int:
    """Write the tables and pictures of README and docs anew from the archive."""
    from reprod import project
    from reprod.figures import pages
    from reprod.store.archive.store import ArchiveStore

    changed = list(pages.update(project.need_root(), ArchiveStore(), check_))
    for each in changed:
        print(each)
    print(f"{len(changed)} {'not as the archive has it' if check_ else 'written anew'}")
    return 1 if check_ and changed else 0
