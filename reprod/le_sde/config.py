"""Parameters of the experiments of Zhang et al. (2021). The defaults are the paper's.

There is no batch size: the first implementation's option logged wrong labels, and only batch size one was ever used.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reprod.config import Config, Named, at_scale, param, spell
from reprod.errors import BadInput

RANDOM_LABELS = 2 / 3  # the corruption of three classes at which a label says nothing about its image
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, RANDOM_LABELS, 0.7, 0.8)
SAMPLE_SIZES = (50, 100, 300, 600, 1000, 3000, 6000)


@dataclass(frozen=True, kw_only=True)
class OnProcessor(Config):
    """What all experiments of the paper share: compiled kernels and closed forms, which know no GPU."""

    paper = "le_sde"

    device: str = param("auto", identity=False, help="auto or cpu: everything here is computed on the processor")

    def prepare(self) -> None:
        if self.device not in ("auto", "cpu"):
            raise BadInput(f"device={self.device}: {self.experiment} computes on the processor; use device=cpu or auto")


@dataclass(frozen=True, kw_only=True)
class Dynamics(OnProcessor):
    """What the two trainings share: R networks ("trials"), each with its own initialisation and order of samples."""

    aliases: ClassVar[Mapping[str, str]] = {"trials": "networks", "lr": "learning_rate"}

    networks: int = param(
        100, at_least=1, help='networks R ("trials"), trained together; class means are averages over them'
    )
    iterations: int = param(10_000, at_least=1, help="SGD steps T of every network, one sample each")
    learning_rate: float = param(0.005, above=0, help="learning rate of plain SGD")
    head: str = param(
        "none",
        choices=("none", "orthogonal"),
        help="orthogonal: a frozen random K x K matrix after the last layer (rdH)",
    )
    data_seed: int = param(
        0, at_least=0, help="seed of the data set, its split and its corruption, shared by all networks"
    )
    eval_every: int = param(50, at_least=1, help="iterations between two evaluations of all networks; 1: as published")
    val_images: int | None = param(
        None, at_least=1, help="evaluate on so many random validation images only, the same ones always; none: on all"
    )
    dtype: str = param("float32", choices=("float32", "float64"), help="arithmetic; float64 is the original's")
    checkpoint_every: int = param(2000, at_least=1, identity=False, help="iterations between two checkpoints")

    if TYPE_CHECKING:  # of both
        n_train: int
        n_val: int

        @property
        def classes(self) -> int: ...

        @property
        def channels(self) -> int: ...

    @property
    def evaluated_on(self) -> int | None:
        """So many of the validation images; None where it is all of them."""
        every_image = self.n_val * self.classes
        return None if self.val_images is None or self.val_images >= every_image else self.val_images

    def unused(self) -> set[str]:
        return {"val_images"} if self.evaluated_on is None else set()

    def check(self) -> None:
        least, largest = (1e-45, 3e38) if self.dtype == "float32" else (0.0, 1e300)
        if not least < self.learning_rate < largest:
            raise BadInput(f"learning_rate={spell(self.learning_rate)}: {self.dtype} cannot hold that")

    def prepare(self) -> None:
        super().prepare()
        size = 4 if self.dtype == "float32" else 8
        weights = 61_500 * size
        logits = self.iterations * (self.classes * size + 13)
        images = 3 * (self.n_train + self.n_val) * self.classes * self.channels * 1024 * size
        needed, there = (self.networks * (weights + logits) + images) / 1e9, memory()
        if needed > there:
            raise BadInput(
                f"networks={self.networks}, iterations={self.iterations}, n_train={self.n_train}: "
                f"images, weights and logits take {needed:.3g} GB, this machine has {there:.3g}"
            )


@dataclass(frozen=True, kw_only=True)
class GeomnistDynamics(Dynamics):
    """A hundred LeNets on GeoMNIST under label corruption (Zhang et al. 2021, figures 1, 3, 4; sample-size study)."""

    experiment = "geomnist_dynamics"
    aliases: ClassVar[Mapping[str, str]] = {**Dynamics.aliases, "p": "corruption"}

    corruption: float = param(
        0.0, at_least=0, at_most=1, help="share p of each class's training labels that is changed"
    )
    n_train: int = param(500, at_least=1, help="training images per class")
    n_val: int = param(500, at_least=1, help="validation images per class")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"eval_every": 250, "val_images": 240},
        "smoke": {"networks": 6, "iterations": 250, "eval_every": 50, "val_images": 32, "n_train": 20, "n_val": 20},
    }

    @property
    def classes(self) -> int:
        return 3

    @property
    def channels(self) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class CifarDynamics(Dynamics):
    """A hundred LeNets on K classes of CIFAR-10 (Zhang et al. 2021, figures 1 and 3)."""

    experiment = "cifar_dynamics"

    classes: int = param(3, at_least=2, at_most=10, help="K: classes 0 ... K-1 in CIFAR's order")
    iterations: int = param(30_000, at_least=1, help="SGD steps T of every network, one sample each")
    learning_rate: float = param(0.001, above=0, help="learning rate of plain SGD")
    n_train: int = param(2000, at_least=1, help="training images per class, drawn with replacement")
    n_val: int = param(500, at_least=1, help="test images per class, drawn with replacement")
    dataset: str = param(
        "cifar10", choices=("cifar10", "synthetic"), help="synthetic: random patterns of CIFAR's shape, for quick tests"
    )
    eval_every: int = param(150, at_least=1, help="iterations between two evaluations of all networks; 1: as published")
    checkpoint_every: int = param(6000, at_least=1, identity=False, help="iterations between two checkpoints")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"eval_every": 600, "val_images": 300},
        "smoke": {
            "networks": 6, "iterations": 600, "eval_every": 100, "val_images": 32, "n_train": 40, "n_val": 20,
            "dataset": "synthetic",
        },
    }  # fmt: skip

    @property
    def channels(self) -> int:
        return 3

    def prepare(self) -> None:
        super().prepare()
        if self.dataset == "cifar10":
            from reprod.data import images

            images.ensure("cifar10", self.data_dir)


@dataclass(frozen=True, kw_only=True)
class LeOdeSimulation(OnProcessor):
    """The LE-ODE driven by strengths that were read off real networks (Zhang et al. 2021, figure 5)."""

    experiment = "le_ode_simulation"
    aliases: ClassVar[Mapping[str, str]] = {"p": "corruption"}

    training_run: str = param(
        "auto",
        help="run id of the training that is imitated; auto: the finished run in the store that the parameters below "
        "describe, or if there is none a training in this run",
    )
    dataset: str = param("geomnist", choices=("geomnist", "cifar10"), help="data set of the training")
    corruption: float = param(0.0, at_least=0, at_most=1, help="label corruption p of the training (geomnist)")
    data_seed: int = param(0, at_least=0, help="seed of the training's data set")
    training_scale: str = param(
        "paper", choices=("paper", "small", "smoke"), help="scale whose settings the training has"
    )
    estimator: str = param(
        "I",
        choices=("I", "L", "modes"),
        help="how the strengths are read off: the I-model, the published L-model (K = 3), the L-model by its modes",
    )
    baseline: int = param(
        1, at_least=1, help="first iterations whose mean the estimates are normalised by; 1: published"
    )
    window: int = param(21, at_least=3, help="window of the Savitzky-Golay derivative; 21: published")
    drift: str = param("L", choices=("L", "I"), help="which model is simulated; L: published, whatever the estimator")
    integrator: str = param(
        "euler", choices=("euler", "exponential"), help="exponential keeps the measured growth; euler: published"
    )
    start: str = param(
        "gaussian", choices=("gaussian", "measured"), help="Gaussian draws (published), or the measured class means"
    )
    simulations: int = param(500, at_least=2, at_most=10_000, help="Gaussian starts")
    noise_scale: float = param(1.0, at_least=1e-6, at_most=1e6, help="factor of their standard deviation")
    keep: int | None = param(None, at_least=1, identity=False, help="simulations that are stored; none: all")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"training_scale": "small", "keep": 50},
        "smoke": {"training_scale": "smoke", "simulations": 8},
    }

    def check(self) -> None:
        if self.window % 2 == 0:
            raise BadInput(f"window={self.window}: a Savitzky-Golay window is odd")
        if self.training_run == "auto":
            self.suits(self.training().iterations, 3)

    def suits(self, iterations: int, classes: int) -> None:
        """Raise `BadInput` where a training of so many iterations and classes cannot be imitated like that."""
        for name in ("window", "baseline"):
            if getattr(self, name) > iterations:
                raise BadInput(f"{name}={getattr(self, name)}: the training has {iterations} iterations only")
        if self.estimator == "L" and classes != 3:
            raise BadInput(f"estimator=L is written for 3 classes, the training has {classes}: use estimator=modes")

    def unused(self) -> set[str]:
        unused = {"simulations", "noise_scale"} if self.start == "measured" else set()
        if self.training_run != "auto":
            return unused | {"dataset", "corruption", "data_seed", "training_scale"}
        return unused | ({"corruption"} if self.dataset == "cifar10" else set())

    def training(self) -> GeomnistDynamics | CifarDynamics:
        """The training that `training_run=auto` stands for."""
        shared: dict[str, Any] = {
            "seeds": self.seeds, "data_seed": self.data_seed, "data_dir": self.data_dir, "device": self.device,
        }  # fmt: skip
        if self.dataset == "geomnist":
            return at_scale(GeomnistDynamics, self.training_scale, corruption=self.corruption, **shared)
        return at_scale(CifarDynamics, self.training_scale, **shared)

    def upstream(self) -> tuple[Config | Named, ...]:
        if self.training_run == "auto":
            return (self.training(),)
        return (Named("training_run", self.training_run, (GeomnistDynamics.experiment, CifarDynamics.experiment)),)


@dataclass(frozen=True, kw_only=True)
class LeSdeSeparation(OnProcessor):
    """The phase transition itself: class gap against spread when the drift decays as t^-r (ours; Zhang et al. 2021)."""

    experiment = "le_sde_separation"

    model: str = param("I", choices=("I", "L"), help="drift: I-model (isotropic) or L-model (logits as features)")
    classes: int = param(3, at_least=2, at_most=32, help="classes K; features have K dimensions")
    samples: int = param(400, at_least=2, at_most=1_000_000, help="samples n per class")
    exponents: tuple[float, ...] = param(
        (0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5),
        above=0,
        at_most=100,
        help="decay exponents r of the strengths",
    )
    alpha: float = param(1.2, help="alpha(t) = alpha t^-r: push on samples of the same class")
    beta: float = param(
        -0.3, help="beta(t) = beta t^-r; with (alpha - beta)/K = 1/2 the critical exponent 1 has a constant gap/spread"
    )
    sigma: float = param(1.0, at_least=1e-100, at_most=1e100, help="diffusion of each sample")
    spread: float = param(1.0, at_least=1e-100, at_most=1e100, help="standard deviation of the initial features")
    gap: float = param(
        1.0, at_least=0, at_most=1e100, help="initial class means: this times the vertices of a unit simplex"
    )
    iterations: int = param(100_000, at_least=10, at_most=10_000_000, help="unit time steps T, from t = 1")
    replicas: int = param(12, at_least=1, help="independent systems per exponent")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"iterations": 20_000, "samples": 200},
        "smoke": {"iterations": 500, "samples": 20, "exponents": (0.6, 1.0, 1.4), "replicas": 2},
    }

    def check(self) -> None:
        if not self.exponents or len(set(self.exponents)) < len(self.exponents):
            raise BadInput(f"exponents={spell(self.exponents)}: give each exponent once, and at least one")
        slowest = min(self.exponents)
        horizon = math.log(self.iterations)
        integral = horizon if slowest == 1 else math.expm1((1 - slowest) * horizon) / (1 - slowest)
        largest = (abs(self.alpha) + self.classes * abs(self.beta)) * integral / self.classes
        if not largest < 600:
            raise BadInput(
                f"alpha={spell(self.alpha)}, beta={spell(self.beta)}: at exponent {spell(slowest)} class means may "
                f"grow by e^{largest:.3g} in {self.iterations} steps, beyond double precision"
            )


def memory() -> float:
    """The machine's memory in GB; infinite where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AttributeError, ValueError, OSError):
        return math.inf
