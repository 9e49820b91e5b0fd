"""The runs behind the figures of Eslami et al. (2021), and words for numbers that several modules use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reprod.config import Config, at_scale
from reprod.figures.claims import interval
from reprod.figures.figure import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, TOO_FEW, Runs
from reprod.morse_graph.config import CONFIGURATIONS, IrisTraining, MnistTraining, MorseGraph, Training

if TYPE_CHECKING:
    from reprod.store import Record

PAPER = "Eslami et al. 2021"
SEEDS = {"paper": (0, 1, 2, 3, 4), "small": (0, 1), "smoke": (0,)}

# -- runs ---------------------------------------------------------------------------------------------------------


def training(name: str, scale: str) -> Training:
    """A training of section 2.3 by its name."""
    architecture, epochs, batch_size = CONFIGURATIONS[name]
    cls = IrisTraining if name.startswith("iris") else MnistTraining
    settings = {"architecture": architecture, "epochs": epochs, "batch_size": batch_size, "seeds": SEEDS[scale]}
    return at_scale(cls, scale, **settings)


def surrogate(name: str, scale: str, **settings: Any) -> MorseGraph:
    """The Morse graph of such a training."""
    of = training(name, scale)
    shared: dict[str, Any] = {
        "architecture": of.architecture, "epochs": of.epochs, "batch_size": of.batch_size, "networks": of.networks,
        "n_train": of.n_train if isinstance(of, MnistTraining) else None, "seeds": of.seeds,
    }  # fmt: skip
    return at_scale(MorseGraph, scale, **{**shared, **settings})


def of_training(runs: Runs, name: str) -> list[Record]:
    wanted = training(name, runs.scale)
    same = {"architecture": wanted.architecture, "epochs": wanted.epochs, "batch_size": wanted.batch_size}
    return runs.of(wanted.experiment).where(**same).records


SHUFFLES = {"paper": (0, 1, 2, 3), "small": (0, 1), "smoke": (0,)}


def both_pairings(name: str, scale: str) -> list[Config]:
    paired = surrogate(name, scale)
    return [training(name, scale), paired] + [
        surrogate(name, scale, pairing="shuffled", shuffle=k) for k in SHUFFLES[scale]
    ]


def verdict(runs: Runs, holds: bool, *, enough: bool = True) -> str:
    """`enough`: whether runs that do not show it are enough to deny it."""
    if runs.scale == "smoke":
        return NOT_COMPARABLE
    return REPRODUCED if holds else NOT_REPRODUCED if enough else TOO_FEW


def words(numbers: Iterable[float]) -> str:
    return ", ".join(f"{x:.3g}" for x in numbers)


def with_spread(numbers: Sequence[float]) -> str:
    low, high = interval(numbers)
    mean = float(np.mean(numbers))
    return f"{mean:.3f}" + (f" +- {(high - low) / 2:.3f}" if np.isfinite(low) else "")
