"""Parameters of the experiments of Eslami et al. (2021). The defaults are the paper's.

`CONFIGURATIONS` are the trainings of section 2.3 by name: architecture, epochs, batch size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from reprod.config import Config, Named, param
from reprod.errors import BadInput

from .architectures import ARCHITECTURES

IRIS = tuple(name for name, a in ARCHITECTURES.items() if a.dataset == "iris")
MNIST = tuple(name for name, a in ARCHITECTURES.items() if a.dataset == "mnist")

KNOWN = ("half", "half_2d", "double", "bistable", "identity", "constant", "product", "product_3d", "leslie")

# name -> architecture, epochs, batch size
CONFIGURATIONS: dict[str, tuple[str, int, int]] = {
    "iris_baseline": ("iris_L1", 150, 5),
    **{f"iris_epoch_{n}": ("iris_L1", n, 5) for n in (100, 300, 450)},
    **{f"iris_batch_{n}": ("iris_L1", 150, n) for n in (10, 20, 40)},
    **{f"iris_layers_{n}": (f"iris_L{n}", 150, 5) for n in (2, 3, 4)},
    **{f"iris_nodes_{n}": (f"iris_N{n}", 150, 5) for n in (3, 4, 5, 6)},
    "mnist_baseline": ("mnist_L1", 4, 128),
    **{f"mnist_epoch_{n}": ("mnist_L1", n, 128) for n in (8, 12, 16)},
    **{f"mnist_batch_{n}": ("mnist_L1", 4, n) for n in (32, 64, 256)},
    **{f"mnist_layers_{n}": (f"mnist_L{n}", 4, 128) for n in (2, 3, 4)},
}

TRAININGS = ("iris_training", "mnist_training")


def on_processor(config: Config) -> None:
    """Raise `BadInput` where a GPU is asked for: the compiled epochs and graphs of this paper know none."""
    if config.device not in ("auto", "cpu"):
        raise BadInput(f"device={config.device}: {config.experiment} computes on the processor; use device=cpu or auto")


@dataclass(frozen=True, kw_only=True)
class Training(Config):
    """What the two trainings share."""

    paper = "morse_graph"
    aliases: ClassVar[Mapping[str, str]] = {"network": "architecture", "nets": "networks", "images": "n_train"}

    architecture: str = param("iris_L1", choices=(*IRIS, *MNIST), help="architecture of each network")
    epochs: int = param(150, at_least=2, help="epochs; the early snapshot is taken after two")
    batch_size: int = param(5, at_least=1, help="samples in a batch; the last, smaller one of an epoch is kept")
    device: str = param("auto", identity=False, help="auto or cpu: networks this small are computed on the processor")
    networks: int = param(100, at_least=2, help="networks, each with its own initialisation, orders and dropout")
    checkpoint_every: int = param(25, at_least=1, identity=False, help="epochs between two checkpoints")

    def check(self) -> None:
        if max(self.seeds) >= 2**63:
            raise BadInput(f"seeds={max(self.seeds)}: must be less than 2^63")

    def prepare(self) -> None:
        on_processor(self)


@dataclass(frozen=True, kw_only=True)
class IrisTraining(Training):
    """A hundred small softmax networks on iris (Eslami et al. 2021, figures 2 and 3)."""

    experiment = "iris_training"

    architecture: str = param("iris_L1", choices=IRIS, help="L: number of layers; N: two layers, so many hidden nodes")
    standardise: str = param(
        "all", choices=("all", "train"), help="flowers whose mean and deviation standardise (the paper: all, a leak)"
    )
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"networks": 12, "epochs": 20}}


@dataclass(frozen=True, kw_only=True)
class MnistTraining(Training):
    """A hundred small convolutional networks on MNIST's zeros and ones (Eslami et al. 2021, figures 4 and 5)."""

    experiment = "mnist_training"

    architecture: str = param("mnist_L1", choices=MNIST, help="L: number of layers, the last one dense")
    epochs: int = param(4, at_least=2, help="epochs; the early snapshot is taken after two")
    batch_size: int = param(128, at_least=1, help="samples in a batch; the last, smaller one of an epoch is kept")
    n_train: int | None = param(
        None, at_least=1, at_most=12_665, help="only the first so many training images; none: all 12,665"
    )
    scale_pixels: bool = param(False, help="pixels from 0 to 1; the paper leaves them from 0 to 255")
    checkpoint_every: int = param(1, at_least=1, identity=False, help="epochs between two checkpoints")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"networks": 40},
        "smoke": {"networks": 12, "n_train": 300},
    }

    def prepare(self) -> None:
        super().prepare()
        from reprod.data import images

        images.ensure("mnist", self.data_dir)


@dataclass(frozen=True, kw_only=True)
class MorseGraph(Config):
    """Morse graph and order retraction of a surrogate of training, or of a known map (Eslami et al. 2021, figure 3)."""

    experiment = "morse_graph"
    paper = "morse_graph"
    aliases: ClassVar[Mapping[str, str]] = {**Training.aliases, "phase_subdiv": "subdivisions"}

    device: str = param("auto", identity=False, help="auto or cpu: graphs are computed on the processor")
    map: str = param("surrogate", choices=("surrogate", *KNOWN), help="a surrogate of a training, or a known map")
    training_run: str = param(
        "auto",
        help="run id of the training; auto: the finished run in the store that has the parameters below, "
        "or if there is none a training in this run",
    )
    architecture: str = param("iris_L1", choices=(*IRIS, *MNIST), help="architecture of the training's networks")
    epochs: int = param(450, at_least=2, help="epochs of the training")
    batch_size: int = param(5, at_least=1, help="batch size of the training")
    networks: int = param(100, at_least=2, help="networks of the training")
    n_train: int | None = param(None, at_least=1, at_most=12_665, help="training images (MNIST); none: all")
    pair: str = param(
        "largest", choices=("largest", "smallest"), help="weights whose final values spread most or least"
    )
    dimension: int = param(2, at_least=1, at_most=6, help="how many of those weights span the phase space")
    pairing: str = param(
        "by_net",
        choices=("by_net", "shuffled"),
        help="by_net: early and final weights of the same network belong together; shuffled: as published, where the "
        "two tables were sorted differently, so that rows of different networks meet",
    )
    shuffle: int = param(0, at_least=0, help="which shuffle, with pairing=shuffled")
    prior: str = param(
        "zero", choices=("zero", "identity"), help="prior mean of the surrogate; identity: it learns displacements"
    )
    subdivisions: int = param(15, at_least=1, at_most=24, help="bisections S of the box: about 2^S cells")
    padding: bool = param(True, help="widen the image of a cell by one cell on each side")
    z: float = param(0.0, at_least=0, at_most=100, help="widen it also by so many standard deviations of the surrogate")
    level: float | None = param(
        None, above=0, below=1, help="instead of z: probability that a path of the process stays inside at all corners"
    )
    conley: bool = param(True, help="compute the Conley indices")
    prune: bool = param(False, help="drop nodes with a trivial Conley index before the retraction")
    sweep: tuple[int, ...] = param(
        (), at_least=1, at_most=20, help="subdivisions at which nodes are counted and the steps timed"
    )
    sweep_dimensions: tuple[int, ...] = param(
        (), at_least=1, at_most=6, help="dimensions at which nodes are counted and the steps timed"
    )
    bootstrap: int = param(0, at_least=0, help="resamples of the networks whose Morse graphs are counted")
    permutations: int = param(
        9_999, at_least=1, at_most=99_999, help="of the test whether the region of the start predicts accuracy"
    )
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"networks": 12, "epochs": 20, "subdivisions": 10, "permutations": 199}
    }

    def check(self) -> None:
        if self.z and self.level is not None:
            raise BadInput("z and level both widen the image: give one of them")
        if self.map != "surrogate" and (self.z or self.level is not None):
            raise BadInput(f"map={self.map}: a known map has no deviation; z and level need map=surrogate")

    def unused(self) -> set[str]:
        training = {"architecture", "epochs", "batch_size", "networks", "n_train"}
        surrogate = {"training_run", "pair", "dimension", "pairing", "shuffle", "prior", "z", "level", "permutations"}
        if self.map != "surrogate":
            return training | surrogate | {"bootstrap", "sweep_dimensions"} | ({"conley"} if self.prune else set())
        unused = set() if self.pairing == "shuffled" else {"shuffle"}
        if self.training_run != "auto":
            unused |= training
        elif ARCHITECTURES[self.architecture].dataset == "iris":
            unused |= {"n_train"}
        return unused | ({"conley"} if self.prune else set())

    def training(self) -> Training:
        """The training that `training_run=auto` stands for, of all seeds."""
        shared: dict[str, Any] = {
            "architecture": self.architecture, "epochs": self.epochs, "batch_size": self.batch_size,
            "networks": self.networks, "seeds": self.seeds, "data_dir": self.data_dir, "device": self.device,
            "scale": self.scale,
        }  # fmt: skip
        if ARCHITECTURES[self.architecture].dataset == "iris":
            return IrisTraining(**shared)
        return MnistTraining(**shared, n_train=self.n_train)

    def prepare(self) -> None:
        on_processor(self)

    def upstream(self) -> tuple[Config | Named, ...]:
        if self.map != "surrogate":
            return ()
        if self.training_run != "auto":
            return (Named("training_run", self.training_run, TRAININGS),)
        return (self.training(),)
