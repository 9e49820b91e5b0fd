"""`reprod archive ...` and `reprod restore`: the runs of record in files that travel with the checkout."""

from __future__ import annotations

from typing import Annotated

import typer

from reprod.errors import BadInput

app = typer.Typer(help="The runs of record, in files that travel with the checkout.", no_args_is_help=True)

Uri = Annotated[str | None, typer.Option(help="the store; default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")]


@app.command()
def add(
    paper: Annotated[str | None, typer.Option(help="all figures of this paper")] = None,
    figure: Annotated[str | None, typer.Option("--figure", help="one figure, as `reprod list` names it")] = None,
    scale: Annotated[str | None, typer.Option(help="default: the largest of which the store has all runs")] = None,
    tracking_uri: Uri = None,
) -> int:
    """Put the runs behind figures into the archive, with all that the figures and their claims read."""
    from reprod.cli import scale_known
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
