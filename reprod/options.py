"""What several commands share: their options, with completions for the shell, and how parameters are read."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reprod import papers
from reprod.config import SCALES, scale_known
from reprod.errors import BadInput


def use(uri: str | None) -> str | None:
    """Make the store of --tracking-uri the current one, also for what the command starts."""
    if uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = uri
    return uri


def complete_parameter(incomplete: str) -> list[str]:
    """`to` -> `tol=`, of the experiment that was typed before: the context does not have it, the shell's words do."""
    typed = " ".join(os.environ.get(name, "") for name in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")).split()
    known = [dataclasses.fields(papers.config_class(word)) for word in typed if word in papers.experiments()]
    return [f"{field.name}=" for field in (known or [()])[0] if field.name.startswith(incomplete)]


def one_of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """A completion for the shell."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="parameters in a YAML file, as `reprod config` writes it"),
]
EntryPoint = Annotated[
    str, typer.Argument(help="an entry point, as `reprod list` names it", autocompletion=one_of(papers.experiments))
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("-P", metavar="NAME=VALUE", help="a parameter; may be repeated", autocompletion=complete_parameter),
]
Uri = Annotated[
    str | None, typer.Option(help="the store; default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db", callback=use)
]
Scale = Annotated[str, typer.Option(help="paper, medium, small or smoke", autocompletion=one_of(lambda: SCALES))]
ScaleToo = Annotated[
    str | None, typer.Option("--scale", help="the same as -P scale=...", autocompletion=one_of(lambda: SCALES))
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there")]
Paper = Annotated[str | None, typer.Option(help="all figures of this paper", autocompletion=one_of(papers.papers))]
Experiment = Annotated[
    str | None, typer.Option(help="all figures of this experiment", autocompletion=one_of(papers.experiments))
]
AnyScale = Annotated[
    str | None,
    typer.Option(
        help="default: paper; with --archive the largest of which all runs are there",
        autocompletion=one_of(lambda: SCALES),
    ),
]
FromArchive = Annotated[bool, typer.Option("--archive", help="read the archive of this checkout, not a store")]
FigureId = Annotated[str | None, typer.Option("--figure", help="one figure, as `reprod list` names it")]


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


def scaled(words: Sequence[str] | None, scale: str | None) -> dict[str, str]:
    """The parameters, with the scale among them."""
    values = pairs(words)
    if scale is None:
        return values
    scale_known(scale)
    if values.get("scale", scale) != scale:
        raise BadInput(f"--scale {scale} and -P scale={values['scale']}: say one of them")
    return {"scale": scale, **values}


def print_json(value: Any) -> None:
    """Numbers that are not finite become null."""

    def plain(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: plain(inner) for name, inner in part.items()}
        if isinstance(part, (list, tuple)):
            return [plain(inner) for inner in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    print(json.dumps(plain(value), indent=1))
