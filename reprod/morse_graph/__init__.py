"""Eslami et al. (2021): the global dynamics of training, from hundreds of small networks and a surrogate map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprod.papers import Experiment, Paper

if TYPE_CHECKING:
    from .morse import MorseGraph, compute
    from .surrogate import Surrogate

_MORSE = ("cmgdb", "arai2009database", "rasmussen2006gaussian")

PAPER = Paper(
    name="morse_graph",
    title="Eslami et al., Extracting Global Dynamics of Loss Landscape in Deep Learning Models, 2021",
    package=__name__,
    cite=("eslami2021extracting",),
    docs="docs/morse_graph.md",
    figures="reprod.analysis.morse_graph",
    experiments={
        "iris_training": Experiment(".config:IrisTraining", ".ensemble:train", ("kingma2015adam", "fisher1936use")),
        "mnist_training": Experiment(
            ".config:MnistTraining", ".ensemble:train", ("kingma2015adam", "lecun1998gradient")
        ),
        "morse_graph": Experiment(".config:MorseGraph", ".dynamics:morse_graph", _MORSE),
    },
)

__all__ = ["MorseGraph", "Surrogate", "compute"]


def __getattr__(name: str) -> Any:
    """Imported on first use: a configuration needs neither SciPy nor Numba."""
    if name in ("MorseGraph", "compute"):
        from . import morse

        return getattr(morse, name)
    if name == "Surrogate":
        from .surrogate import Surrogate

        return Surrogate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
