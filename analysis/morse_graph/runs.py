"""The runs behind the figures of Eslami et al. (2021)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from reprod.config import Config, at_scale
from reprod.figures.figure import Runs
from reprod.morse_graph.config import CONFIGURATIONS, IrisTraining, MnistTraining, MorseGraph, Training

if TYPE_CHECKING:
    from reprod.store import Record

PAPER = "Eslami et al. 2021"
SEEDS = {"paper": (0, 1, 2, 3, 4), "small": (0, 1), "smoke": (0,)}
SHUFFLES = {"paper": (0, 1, 2, 3), "small": (0, 1), "smoke": (0,)}


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


def both_pairings(name: str, scale: str) -> list[Config]:
    """The training of that name, its graph with paired rows, and its graphs with shuffled rows."""
    shuffled = [surrogate(name, scale, pairing="shuffled", shuffle=k) for k in SHUFFLES[scale]]
    return [training(name, scale), surrogate(name, scale), *shuffled]


def what_is_trained(config: Training) -> tuple[str, int, int]:
    """What distinguishes the trainings of section 2.3, at every scale."""
    return config.architecture, config.epochs, config.batch_size


def of_training(runs: Runs, name: str) -> list[Record]:
    """The finished ensembles of a training, one for each seed."""
    wanted = CONFIGURATIONS[name]
    return [r for config, records in runs if isinstance(config, Training) and what_is_trained(config) == wanted
            for r in records]  # fmt: skip


def lost(runs: Runs, experiment: str | None = None) -> int:
    """Seeds that ended without a result, of the configuration that has most of them."""
    of = runs if experiment is None else runs.of(experiment)
    return max((max(0, len(config.seeds) - len(records)) for config, records in of), default=0)


def words(numbers: Iterable[float]) -> str:
    return ", ".join(f"{x:.3g}" for x in numbers)


def ids(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(record.id for record in records)
