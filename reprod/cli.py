"""The command line. Every command imports what it needs when it is called: `reprod --help` loads neither torch nor
MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reprod.errors import BadInput

app = typer.Typer(
    help="Re-run the experiments of five papers on the dynamics of deep learning; rebuild every figure from the store.",
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

Parameters = Annotated[list[str] | None, typer.Option("-P", metavar="NAME=VALUE", help="a parameter; may be repeated")]
Uri = Annotated[str | None, typer.Option(help="the store; default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")]
Scale = Annotated[str, typer.Option(help="paper, small or smoke")]
Paper = Annotated[str | None, typer.Option(help="all figures of this paper")]
Experiment = Annotated[str | None, typer.Option(help="all figures of this experiment")]
FigureId = Annotated[str | None, typer.Option("--figure", help="one figure, as `reprod list` names it")]


def main() -> None:
    import sys

    from reprod.launch import guarded

    def command() -> int:
        status = app(standalone_mode=False)
        return status if isinstance(status, int) else 0

    try:
        sys.exit(guarded(command))
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            print(f"reprod: {error.format_message()}", file=sys.stderr)
            sys.exit(2)
        raise


def pairs(words: Sequence[str] | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals:
            raise BadInput(f"-P {word}: expected NAME=VALUE")
        if name in values:
            raise BadInput(f"-P {name} is given twice")
        values[name] = value
    return values


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="an entry point, as `reprod list` names it")],
    parameters: Parameters = None,
    env_manager: Annotated[
        str | None, typer.Option(help="local, conda, uv or virtualenv; default: what is here")
    ] = None,
) -> int:
    """Run one experiment and record it. `-P help=` shows its parameters."""
    from reprod import launch, registry

    registry.known(experiment)
    values = pairs(parameters)
    if "help" in values:
        print(launch.help_text(experiment))
        return 0
    return launch.run_project(experiment, values, env_manager)


@app.command()
def resume(run_id: Annotated[str, typer.Argument(help="a run that was stopped or killed")]) -> int:
    """Continue an unfinished run behind its newest checkpoint."""
    from reprod import launch

    return launch.resume(run_id)


@app.command()
def figures(
    experiment: Experiment = None,
    paper: Paper = None,
    figure: FigureId = None,
    scale: Scale = "paper",
    out: Annotated[Path, typer.Option(help="folder for PDF, PNG and CSV")] = Path("figures"),
    tracking_uri: Uri = None,
) -> int:
    """Rebuild figures from the runs in the store, and from nothing else."""
    from analysis.figure import figures as find
    from analysis.figure import gather, write
    from reprod.store import Store

    scale_known(scale)
    chosen = find(paper, experiment, figure)
    store = Store(tracking_uri)
    index: dict[str, Any] = {}
    lacking = []
    for each in chosen:
        try:
            paths = write(each, gather(each, scale, store, index), out)
        except BadInput as error:
            lacking.append(str(error))
            continue
        print(f"{each.id}: {', '.join(str(path) for path in paths)}")
    for complaint in lacking:
        print(complaint)
    if lacking:
        print(f"{len(chosen) - len(lacking)} of {len(chosen)} figures rebuilt, {len(lacking)} lack runs")
    return 2 if len(lacking) == len(chosen) else 1 if lacking else 0


@app.command(name="list")
def list_(tracking_uri: Uri = None) -> int:
    """Show papers, experiments and figures, and what the store holds for each."""
    from analysis.figure import figures as find
    from analysis.figure import needs
    from reprod import registry
    from reprod.config import SCALES
    from reprod.store import Store

    store = Store(tracking_uri)
    index: dict[str, Any] = {}
    for paper, title in registry.PAPERS.items():
        names = [name for name, (of, *_) in registry.EXPERIMENTS.items() if of == paper]
        print(f"\n{paper}: {title}" + ("" if names else " (not yet here)"))
        for name in names:
            index[name] = store.by_digest(name)
            records = [r for same in index[name].values() for r in same]
            counts = {s: sum(r.status == s for r in records) for s in ("FINISHED", "RUNNING", "FAILED", "KILLED")}
            held = ", ".join(f"{count} {status.lower()}" for status, count in counts.items() if count) or "no runs"
            print(f"  {name:<22} {(registry.config_class(name).__doc__ or '').strip().splitlines()[0]}  [{held}]")
        for each in find(paper) if names else []:
            states = []
            for scale in SCALES:
                have = needs(each.runs(scale), store, index)
                wanted = sum(len(config.seeds) for config, _ in have.found)
                states.append(f"{scale} {wanted - sum(len(c.seeds) for c in have.missing)}/{wanted}")
            print(f"  {each.id:<22} {each.source}  [{', '.join(states)}]")
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
    print(f"{sum(p.numel() for p in model.parameters())} parameters, from run {run_id} ({record.name})")
    print(f'In Python: from reprod.store import Store; model = Store().get("{run_id}").model()')
    if out is not None:
        import torch

        torch.save(model.state_dict(), out)
        print(f"weights saved to {out}")
    return 0


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="cifar10 or mnist")],
    data_dir: Annotated[str, typer.Option(help="where; default: $REPROD_DATA, else ~/.cache/reprod/data")] = "auto",
) -> int:
    """Download a data set, or check the files that are there."""
    from reprod.data import folder, images
    from reprod.errors import nearest

    if name not in images.NAMES:
        raise BadInput(
            f"there is no data set {name!r}{nearest(name, images.NAMES)} There are: {', '.join(images.NAMES)}"
        )
    images.ensure(name, data_dir)
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


def scale_known(scale: str) -> None:
    from reprod.config import SCALES
    from reprod.errors import nearest

    if scale not in SCALES:
        raise BadInput(f"--scale {scale}: expected one of {', '.join(SCALES)}{nearest(scale, SCALES)}")


if __name__ == "__main__":
    main()
