"""The papers there are. One light object each, found without importing anything heavy.

Ours are the packages that `OURS` lists: under `mlflow run` with conda or uv the checkout is on the path, but not
installed, so that it has no entry points. A paper from elsewhere is a package whose entry point in the group
`reprod.papers` names its `Paper`:

    [project.entry-points."reprod.papers"]
    pendulum = "pendulum:PAPER"
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from reprod.errors import BadInput, nearest

if TYPE_CHECKING:
    from reprod.config import Config
    from reprod.run import Run

OURS = ("neural_ode", "le_sde", "residual_limit", "morse_graph", "learning_coefficient")


@dataclass(frozen=True)
class Experiment:
    """Where an experiment's `Config` and its function live, as `"module:attribute"`, and whom to cite for its methods
    and data. A module that begins with a dot lies in the paper's package."""

    config: str
    function: str
    cite: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """A paper: title, BibTeX keys, page, experiments by name, and the module whose import registers its figures.

    `package` is the package that relative names of the experiments start from, `bibliography` a BibTeX file beside its
    `__init__` (default: the one of reprod).
    """

    name: str
    title: str
    package: str
    experiments: Mapping[str, Experiment]
    cite: tuple[str, ...] = ()
    docs: str = ""
    figures: str = ""
    bibliography: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    def config_class(self, experiment: str) -> type[Config]:
        return self._load(self.experiments[experiment].config)

    def function(self, experiment: str) -> Callable[[Config, Run], None]:
        return self._load(self.experiments[experiment].function)

    def _load(self, where: str):
        module, _, name = where.partition(":")
        try:
            return getattr(importlib.import_module(module, self.package), name)
        except (ImportError, AttributeError) as error:
            raise BadInput(f"the paper {self.name} ({self.package}) has no {where}: {error}") from error


@cache
def papers() -> dict[str, Paper]:
    """Every paper by name: ours, then those of installed packages. One that cannot be imported, or whose name or whose
    experiment's name is taken, is named and passed over."""
    found = {name: importlib.import_module(f"reprod.{name}").PAPER for name in OURS}
    for point in sorted(entry_points(group="reprod.papers"), key=lambda point: point.name):
        try:
            paper = point.load()
            if not isinstance(paper, Paper):
                raise TypeError(f"a {type(paper).__name__} is no Paper")
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            complain(f"the paper {point.name} of {point.value} is passed over, it cannot be imported: {why}")
            continue
        taken = [name for other in found.values() for name in other.experiments if name in paper.experiments]
        if paper.name in found or taken:
            what = f"an experiment named {taken[0]}" if taken else f"the paper {paper.name}"
            complain(f"the paper {point.name} of {point.value} is passed over: there is {what} already")
            continue
        found[paper.name] = paper
    return found


def complain(text: str) -> None:
    import sys

    print(f"reprod: {text}", file=sys.stderr)


@cache
def experiments() -> dict[str, Paper]:
    """The paper of every experiment, by the experiment's name."""
    return {name: paper for paper in papers().values() for name in paper.experiments}


def ours() -> dict[str, Paper]:
    """The paper of every experiment of this package: what its MLproject has entry points for."""
    return {name: paper for name, paper in experiments().items() if paper.name in OURS}


def forget() -> None:
    """Look for papers anew (one was installed, or a test adds one)."""
    papers.cache_clear()
    experiments.cache_clear()


def known(experiment: str) -> str:
    if experiment not in experiments():
        raise BadInput(
            f"there is no experiment {experiment!r}{nearest(experiment, experiments())} `reprod list` shows them all"
        )
    return experiment


def known_paper(name: str) -> Paper:
    if name not in papers():
        raise BadInput(f"there is no paper {name!r}{nearest(name, papers())}")
    return papers()[name]


def config_class(experiment: str) -> type[Config]:
    return experiments()[known(experiment)].config_class(experiment)


def function(experiment: str) -> Callable[[Config, Run], None]:
    return experiments()[known(experiment)].function(experiment)


def packages() -> Iterable[str]:
    """The top-level packages whose models may be loaded: reprod's and those that register a paper."""
    return {"reprod", *(paper.package.partition(".")[0] for paper in papers().values())}
