"""The command line. Every command imports what it needs when it is called: `reprod --help` loads neither torch nor
MLflow."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reprod import __version__, archive_cli, papers
from reprod.config import from_yaml, scale_known, to_yaml
from reprod.errors import BadInput
from reprod.options import (
    AnyScale,
    ConfigFile,
    EntryPoint,
    Experiment,
    FigureId,
    FromArchive,
    Json,
    Paper,
    Parameters,
    Scale,
    ScaleToo,
    Uri,
    pairs,
    print_json,
    scaled,
)  # fmt: skip
from reprod.project import writable

app = typer.Typer(
    help="Re-run the experiments of five papers on the dynamics of deep learning; rebuild every figure from the store.",
    rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip

app.add_typer(archive_cli.app, name="archive")
app.command()(archive_cli.restore)
app.command()(archive_cli.docs)

FIRST = """\
reprod {version}: five papers on the dynamics of deep learning, re-run, tracked in MLflow and redrawn

  reprod list                                      the experiments and figures, and what the store holds of each
  reprod run sphere_ode --scale smoke              run an experiment (here in seconds; -P help= shows its parameters)
  reprod runs sphere_ode                           its runs side by side
  reprod reproduce --figure fig4a --scale small    run what a figure lacks, draw it, check its claims
  reprod report                                    all figures and claims as a web site

reprod --help shows every command, reprod doctor what this machine has and lacks."""


def main() -> None:

    from reprod.jobs.launch import guarded

    def command() -> int:
        status = app(standalone_mode=False)
        return status if isinstance(status, int) else 0

    if "--upgrade" in sys.argv[1:]:  # understood behind the command, too
        sys.argv = [sys.argv[0], "--upgrade", *(word for word in sys.argv[1:] if word != "--upgrade")]
    try:
        sys.exit(guarded(command))
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            print(f"reprod: {error.format_message()}", file=sys.stderr)
            sys.exit(2)
        raise


@app.callback(invoke_without_command=True)
def first(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print it and exit")] = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="let this MLflow change the tables of a store of an older one, for good")
    ] = False,
) -> int:
    if upgrade:
        os.environ["REPROD_UPGRADE"] = "1"
    if version:
        print(f"reprod {__version__}")
        raise typer.Exit
    if upgrade:
        os.environ["REPROD_UPGRADE"] = "1"
    if context.invoked_subcommand is None:
        print(FIRST.format(version=__version__))
    return 0


def given(experiment: str, file: Path | None, typed: dict[str, str]) -> dict[str, str]:
    """Parameters of a file, with those of the command line over them."""
    aliases = papers.config_class(experiment).aliases
    over = {aliases.get(name, name) for name in typed}
    from_file = from_yaml(file, experiment) if file is not None else {}
    return {**{name: text for name, text in from_file.items() if aliases.get(name, name) not in over}, **typed}


@app.command()
def run(
    experiment: EntryPoint,
    parameters: Parameters = None,
    scale: ScaleToo = None,
    config: ConfigFile = None,
    note: Annotated[str, typer.Option(help="a comment, kept with the run")] = "",
    env_manager: Annotated[
        str | None, typer.Option(help="local, conda, uv or virtualenv; default: what is here")
    ] = None,
    tracking_uri: Uri = None,
) -> int:
    """Run one experiment and record it. `-P help=` shows its parameters."""
    from reprod.jobs import launch

    papers.known(experiment)
    values = given(experiment, config, scaled(parameters, scale))
    if "help" in values:
        print(launch.help_text(experiment))
        return 0
    return launch.run_project(experiment, values, env_manager, note)


@app.command()
def runs(
    experiment: EntryPoint,
    parameters: Parameters = None,
    scale: ScaleToo = None,
    metric: Annotated[list[str] | None, typer.Option(help="a metric to show; may be repeated")] = None,
    as_json: Json = False,
    tracking_uri: Uri = None,
) -> int:
    """Compare finished runs: parameters that differ, metrics as mean +- standard deviation over seeds, time, commit."""
    from reprod.jobs import compare
    from reprod.store import Store

    papers.known(experiment)
    store = Store(tracking_uri)
    there = store.readable(store.search(experiment))
    found = compare.lines(compare.chosen(there, experiment, scaled(parameters, scale)))
    if as_json:
        print_json(compare.rows(found, metric or ()))
    elif found:
        compare.show(found, metric or ())
    else:
        print(f"no finished runs of {experiment} like that in {store.uri}")
    return 0


@app.command()
def resume(
    run_id: Annotated[str, typer.Argument(help="a run that was stopped or killed")], tracking_uri: Uri = None
) -> int:
    """Continue an unfinished run behind its newest checkpoint."""
    from reprod.jobs import launch

    return launch.resume(run_id)


@app.command()
def config(run_id: Annotated[str, typer.Argument(help="any run")], tracking_uri: Uri = None) -> int:
    """Print the parameters of a run as a YAML file, which `reprod run --config FILE` reads."""
    from reprod.store import Store

    print(to_yaml(Store(tracking_uri).get(run_id).config), end="")
    return 0


@app.command()
def figures(
    experiment: Experiment = None,
    paper: Paper = None,
    figure: FigureId = None,
    scale: AnyScale = None,
    out: Annotated[Path, typer.Option(help="folder for PDF, PNG and CSV")] = Path("figures"),
    log: Annotated[bool, typer.Option("--log", help="keep them in the store, too, for the MLflow page")] = False,
    archive: FromArchive = False,
    tracking_uri: Uri = None,
) -> int:
    """Rebuild figures from the runs in the store, or in the archive, and from nothing else."""
    from reprod.figures.figure import draw_all
    from reprod.figures.figure import figures as find

    store = reading(archive, tracking_uri)
    if archive and log:
        raise BadInput("--log keeps figures in a store: `reprod restore` first, then without --archive")
    if scale is not None:
        scale_known(scale)
    chosen = find(paper, experiment, figure)
    writable(out, "--out")
    drawn, complaints = draw_all(chosen, scale or (None if archive else "paper"), store, out, log=log)
    if drawn < len(chosen):
        print(f"{drawn} of {len(chosen)} figures rebuilt, {len(chosen) - drawn} could not be")
    return 2 if not drawn else 1 if complaints else 0


@app.command(name="list")
def list_(as_json: Json = False, tracking_uri: Uri = None) -> int:
    """Show papers, experiments and figures, and what the store holds for each."""
    from reprod.figures.listing import listing
    from reprod.store import Store

    listed = listing(Store(tracking_uri))
    if as_json:
        print_json(listed)
        return 0
    for entry in listed:
        print(f"\n{entry['paper']}: {entry['title']}")
        for e in entry["experiments"]:
            held = ", ".join(f"{count} {status}" for status, count in e["runs"].items()) or "no runs"
            print(f"  {e['name']:<22} {e['about']}  [{held}]")
        for f in entry["figures"]:
            shown = ", ".join(f"{scale} {n['there']}/{n['needed']}" for scale, n in f["runs"].items())
            print(f"  {f['id']:<22} {f['source']}  [{shown}]")
    return 0


@app.command()
def load(
    run_id: Annotated[str, typer.Argument(help="a finished run")],
    out: Annotated[Path | None, typer.Option(help="save the weights here, as torch.save writes them")] = None,
    tracking_uri: Uri = None,
) -> int:
    """Rebuild a run's trained model from its weights (no pickle), and show what it is."""
    from reprod.store import Store

    record = Store(tracking_uri).get(run_id)
    model = record.model()
    print(model)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, from run {record.id} ({record.name})")
    print(f'In Python: from reprod.store import Store; model = Store().get("{record.id}").model()')
    if out is not None:
        import torch

        torch.save(model.state_dict(), writable(out.parent, "--out") / out.name)
        print(f"weights saved to {out}")
    return 0


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="cifar10 or mnist")],
    data_dir: Annotated[str, typer.Option(help="where; default: $REPROD_DATA, else ~/.cache/reprod/data")] = "auto",
) -> int:
    """Check every byte of a data set; download what is missing or damaged."""
    from reprod.data import folder, images
    from reprod.errors import nearest

    if name not in images.NAMES:
        raise BadInput(
            f"there is no data set {name!r}{nearest(name, images.NAMES)} There are: {', '.join(images.NAMES)}"
        )
    images.ensure(name, data_dir, repair=True)
    for split in ("train", "test"):
        found = images.load(name, split, data_dir)
        print(f"{name} {split}: {len(found)} images of {found.pixels.shape[1:]}, sha256 {found.digest}")
    print(f"in {folder(data_dir)}")
    return 0


@app.command()
def doctor(tracking_uri: Uri = None) -> int:
    """Tell what this machine has and lacks: environment managers, packages, data, store, devices, Slurm."""
    from reprod import doctor as doctor_

    return doctor_.report(tracking_uri)


Launcher = Annotated[str, typer.Option(help="local (worker processes) or slurm (a job array)")]
Wait = Annotated[float, typer.Option(min=0, help="minutes to wait for runs that others are at")]
Workers = Annotated[int, typer.Option(min=1, help="runs at once")]
SlurmFile = Annotated[
    Path | None, typer.Option("--slurm", help="JSON of time_minutes, mem_gb, cpus, gpus, partition, ... for Slurm")
]
SlurmOption = Annotated[
    list[str] | None, typer.Option("-S", metavar="NAME=VALUE", help="one of those; may be repeated")
]


def options(launcher: str, workers: int, slurm: Path | None, single: Sequence[str] | None) -> Any:
    from reprod.jobs.pool import read_options

    return read_options(launcher, workers, slurm, pairs(single))


@app.command()
def sweep(
    experiment: EntryPoint,
    parameters: Parameters = None,
    scale: ScaleToo = None,
    config: ConfigFile = None,
    workers: Workers = 1,
    launcher: Launcher = "local",
    wait: Wait = 10,
    again: Annotated[bool, typer.Option("--again", help="run also what is finished")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan only")] = False,
    slurm: SlurmFile = None,
    slurm_option: SlurmOption = None,
    tracking_uri: Uri = None,
) -> int:
    """Run all combinations of parameters: `-P tol=0.1,0.01 -P seeds=0-4`. Started again, it runs what is left."""
    from reprod import papers
    from reprod.jobs import sweep as sweep_

    values = given(papers.known(experiment), config, scaled(parameters, scale))
    how = options(launcher, workers, slurm, slurm_option)
    return sweep_.sweep(experiment, values, how, again, dry_run, wait * 60)


@app.command()
def reproduce(
    experiment: Experiment = None,
    paper: Paper = None,
    figure: FigureId = None,
    everything: Annotated[bool, typer.Option("--all", help="all papers")] = False,
    scale: Scale = "paper",
    workers: Workers = 1,
    launcher: Launcher = "local",
    wait: Wait = 10,
    out: Annotated[Path, typer.Option(help="folder for the figures")] = Path("figures"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan only")] = False,
    no_archive: Annotated[bool, typer.Option("--no-archive", help="run also what the archive holds")] = False,
    slurm: SlurmFile = None,
    slurm_option: SlurmOption = None,
    tracking_uri: Uri = None,
) -> int:
    """Run what the figures lack, draw them, check their claims. Interrupt it, start it again: nothing is repeated."""
    from reprod.figures import reproduce as reproduce_
    from reprod.figures.figure import figures as find

    scale_known(scale)
    if not (everything or experiment or paper or figure):
        raise BadInput("say what: --figure fig4d, --experiment NAME, --paper NAME or --all")
    chosen = find(paper, experiment, figure)
    how = options(launcher, workers, slurm, slurm_option)
    return reproduce_.reproduce(chosen, scale, how, out, dry_run, wait * 60, not no_archive)


@app.command()
def claims(
    experiment: Experiment = None,
    paper: Paper = None,
    figure: FigureId = None,
    scale: AnyScale = None,
    as_json: Json = False,
    archive: FromArchive = False,
    tracking_uri: Uri = None,
) -> int:
    """What the papers claim, what our runs give, and the verdict."""
    from reprod.figures.check import check, show, to_json
    from reprod.figures.figure import figures as find

    store = reading(archive, tracking_uri)
    if scale is not None:
        scale_known(scale)
    rows = check(find(paper, experiment, figure), scale or (None if archive else "paper"), store)
    if as_json:
        print(to_json(rows))
    else:
        show(rows)
    return 0


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="folder of the site")] = Path("site"),
    paper: Annotated[str | None, typer.Option(help="this paper only")] = None,
    scale: Annotated[str | None, typer.Option(help="default: the largest that has all runs of a figure")] = None,
    archive: FromArchive = False,
    tracking_uri: Uri = None,
) -> int:
    """Write a static site: every figure with its runs, every claim with its verdict. It opens from a file."""
    from reprod.figures import report as report_

    store = reading(archive, tracking_uri)
    if scale is not None:
        scale_known(scale)
    papers = report_.build(store, out, scale=scale, paper=paper)
    for each in papers:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in each.verdicts.items())
        print(f"{each.name}: {len(each.rebuilt)} of {len(each.shown)} figures rebuilt; claims: {verdicts or 'none'}")
    print(f"open {out / 'index.html'}")
    return 1 if any(shown.error for each in papers for shown in each.shown) else 0


@app.command()
def status(
    repair: Annotated[bool, typer.Option("--repair", help="settle the dead runs as KILLED")] = False,
    dead: Annotated[
        list[str] | None, typer.Option("--dead", metavar="RUN_ID", help="a run of which you know that it is dead")
    ] = None,
    all_runs: Annotated[bool, typer.Option("--all", help="list the finished ones, too")] = False,
    as_json: Json = False,
    tracking_uri: Uri = None,
) -> int:
    """Tell live, finished, failed and dead runs apart, by their process or Slurm job."""
    from collections import Counter

    from reprod.jobs import housekeeping
    from reprod.store import Store

    store = Store(tracking_uri)
    for run_id in dead or ():
        print(f"dead      {run_id}  {housekeeping.declare_dead(store, run_id)}  now KILLED", file=sys.stderr)
    rows = housekeeping.survey(store, repair=repair)
    shown = [row for row in rows if row["state"] != "finished" or all_runs]
    if as_json:
        print_json(shown)
        return 0
    for row in shown:
        print(f"{row['state']:<9} {row['run']}  {row['name']}  {row['about']}")
    counts = Counter(row["state"] for row in rows)
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no runs")
    if waiting := store.undelivered:
        total = sum(waiting.values())
        print(f"{total} messages of {len(waiting)} runs are kept on this machine: `reprod sync` delivers them")
    if counts["dead"] or counts["orphan"]:
        print("`reprod status --repair` settles what is dead or orphaned; --dead RUN_ID what you know to be dead")
    return 0


@app.command()
def diff(a: str, b: str, as_json: Json = False, tracking_uri: Uri = None) -> int:
    """Compare two runs: parameters, environment, metrics."""
    from reprod.jobs import housekeeping
    from reprod.store import Store

    store = Store(tracking_uri)
    found = list(housekeeping.differences(store.get(a), store.get(b)))
    if as_json:
        print_json([{"what": what, "name": name, "a": left, "b": right} for what, name, left, right in found])
        return 0
    for what, name, left, right in found:
        print(f"{what:<12} {name:<28} {left}  ->  {right}")
    print(f"{len(found)} differences" if found else "no differences")
    return 0


@app.command()
def verify(run_id: str, tracking_uri: Uri = None) -> int:
    """Re-execute a finished run from its recorded parameters; report the largest difference of each metric."""
    from reprod.jobs import housekeeping
    from reprod.store import Store

    deviations, environment = housekeeping.verify(Store(tracking_uri), run_id)
    for d in deviations:
        print(f"{'equal' if d.equal else f'{d.largest:.3g}':>10}  {d.name} ({d.about or f'{d.points} values'})")
    for what, name, then, now in environment:
        print(f"{what} differs: {name}: {then} then, {now} now")
    bad = [d for d in deviations if not d.equal]
    print(f"{len(deviations) - len(bad)} of {len(deviations)} equal to the last bit")
    return 1 if bad else 0


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="a new folder, or that of an earlier export, which is added to")],
    paper: Annotated[str | None, typer.Option(help="runs of this paper")] = None,
    experiment: Annotated[str | None, typer.Option(help="runs of this experiment")] = None,
    tracking_uri: Uri = None,
) -> int:
    """Copy runs and their artifacts into a store that opens after being moved to another machine."""
    from reprod.store import Store
    from reprod.store import export as export_
    from reprod.store.connection import uri_of

    if paper is not None:
        papers.known_paper(paper)
    store = Store(tracking_uri)
    records = store.search(papers.known(experiment) if experiment else None)
    chosen = [record for record in records if paper is None or record.tags.get("reprod.paper") == paper]
    shown = {name for record in chosen for name in record.tags.get("reprod.figures", "").split(", ")}
    chosen += [figure for figure in store.drawn(paper) if experiment is None or figure.name in shown]
    lacking: list[str] = []
    count, passed = export_.export(store, chosen, out, lacking)
    print(
        f"{count} runs copied to {out}{f', {passed} were there' if passed else ''}"
        f"{f', {len(lacking)} of them not whole' if lacking else ''}: "
        f"`cd {shlex.quote(str(out))} && mlflow ui`, or --tracking-uri {shlex.quote(uri_of(out / 'mlflow.db'))}"
    )
    return 1 if lacking else 0


@app.command()
def cite(
    experiment: Annotated[str | None, typer.Argument(help="an entry point; default: all of them")] = None,
) -> int:
    """Print BibTeX of an experiment's paper, of the methods and data that it uses, and of this package."""
    from reprod import cite as cite_

    print(cite_.bibtex([papers.known(experiment)] if experiment else list(papers.experiments())))
    return 0


@app.command()
def checklist(
    paper: Annotated[str | None, typer.Option(help="this paper only")] = None,
    tracking_uri: Uri = None,
) -> int:
    """Answer the NeurIPS and ACM reproducibility lists from the store, as Markdown."""
    from reprod.figures import checklist as checklist_
    from reprod.figures.figure import figures as find
    from reprod.store import Store

    find(paper)
    print(checklist_.text(Store(tracking_uri), paper))
    return 0


@app.command()
def sync(tracking_uri: Uri = None) -> int:
    """Deliver what runs kept on disk because the store was away."""
    from reprod.store.connection import connect
    from reprod.store.outbox import sync as sync_

    delivered, waiting = sync_(connect(tracking_uri))
    print(f"{delivered} messages delivered, {waiting} still wait")
    return 1 if waiting else 0


def reading(archive: bool, uri: str | None) -> Any:
    """The store to read: that of the URI, or the archive."""
    if archive and uri is not None:
        raise BadInput("--archive and --tracking-uri: say one of them")
    if archive:
        from reprod.store.archive.store import ArchiveStore

        return ArchiveStore()
    from reprod.store import Store

    return Store(uri)


if __name__ == "__main__":
    main()
