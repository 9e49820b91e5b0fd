"""Parameters of the experiments of Marion et al. (2024). The defaults are the settings of the published figures.

The released scripts ran shorter, in float32, and to depth 1014: `-P iterations=50 -P dtype=float32
-P depths=2,16,64,256,1014` is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from reprod.config import Config, param
from reprod.errors import BadInput

MOST_ENTRIES = 10**8  # numbers of a record of weights, 0.8 GB for each of V and W


@dataclass(frozen=True, kw_only=True)
class Synthetic(Config):
    """What the three experiments on Gaussian noise share."""

    paper = "residual_limit"
    aliases: ClassVar[Mapping[str, str]] = {
        "n": "n_train", "d": "dim", "m": "width", "lr": "learning_rate", "iters": "iterations", "sigma": "activation",
    }  # fmt: skip

    n_train: int = param(100, at_least=1, help="samples; inputs and targets are independent standard normal")
    dim: int = param(16, at_least=1, help="dimension of inputs, states and targets")
    width: int = param(32, at_least=1, help="width of a layer")
    learning_rate: float = param(
        0.01, above=0, help="step of gradient descent; layer gradients are multiplied by the depth too"
    )
    iterations: int = param(500, at_least=2, help="iterations of full-batch gradient descent (the paper's T)")
    activation: str = param(
        "gelu", choices=("gelu", "relu", "identity", "tanh"), help="activation; gelu is the exact one"
    )
    scaling: str = param(
        "code",
        choices=("code", "paper"),
        help="code: 1/L and the mean over n d entries, as the released scripts; paper: 1/(L sqrt m), 1/sqrt d and 1/n",
    )
    init: str = param(
        "tied", choices=("tied", "iid", "gp"), help="W at the start: equal, independent, or a Gaussian process in k/L"
    )
    lengthscale: float = param(0.5, at_least=0.01, at_most=10, help="of the Gaussian process, with init=gp")
    clip: float | None = param(
        None, above=0, below=math.inf, help="clip each coordinate of the flow to [-clip, clip]; no figure does"
    )
    dtype: str = param(
        "float64", choices=("float64", "float32"), help="float32, as the scripts, loses W's increments at great depth"
    )
    kernel: str = param(
        "auto", choices=("auto", "numba", "torch"), identity=False, help="compiled sweep, or torch (the reference)"
    )

    def check(self) -> None:
        if self.kernel == "numba" and self.activation == "tanh":
            raise BadInput("kernel=numba: it has no activation=tanh; use kernel=torch or auto")
        if self.kernel == "numba" and self.device.startswith("cuda"):
            raise BadInput(f"kernel=numba: it computes on the CPU, not on device={self.device}")

    def unused(self) -> set[str]:
        return set() if self.init == "gp" else {"lengthscale"}


@dataclass(frozen=True, kw_only=True)
class ResnetLipschitz(Synthetic):
    """Distance of neighbouring layers against depth (Marion et al. 2024, figure 1 left)."""

    experiment = "resnet_lipschitz"

    seeds: tuple[int, ...] = param((2,), at_least=0, help="seeds; several make one parent run with a child for each")
    iterations: int = param(
        500, at_least=5, help="iterations of full-batch gradient descent (the paper's T); layers part at the third"
    )
    depths: tuple[int, ...] = param((2, 16, 64, 256, 1024), at_least=2, help="depths L; the script's last was 1014")
    checkpoint_every: int = param(100, at_least=1, identity=False, help="iterations between two checkpoints")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"iterations": 20, "depths": (2, 16, 64, 128)}}

    def check(self) -> None:
        super().check()
        _distinct(self.depths)


@dataclass(frozen=True, kw_only=True)
class ResnetConvergence(Synthetic):
    """Distance of nets of all depths to a very deep one, in lock-step (Marion et al. 2024, figure 1 right)."""

    experiment = "resnet_convergence"

    depths: tuple[int, ...] = param(tuple(2**k for k in range(1, 11)), at_least=2, help="depths L")
    reference: int = param(2**14, at_least=4, help="depth of the net that stands for the limit")
    drop: int = param(4, at_least=2, help="first iterations that figure and slopes leave out: distances are 0 before 2")
    checkpoint_every: int = param(50, at_least=1, identity=False, help="iterations between two checkpoints")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"reference": 2**12, "depths": tuple(2**k for k in range(1, 9))},
        "smoke": {"iterations": 20, "reference": 2**9, "depths": tuple(2**k for k in range(1, 7))},
    }

    def check(self) -> None:
        super().check()
        _distinct(self.depths)
        if self.reference < 2 * max(self.depths):
            raise BadInput(f"reference={self.reference}: must be at least twice the greatest of depths")
        if self.drop >= self.iterations:
            raise BadInput(f"drop={self.drop}: must be less than iterations={self.iterations}")


@dataclass(frozen=True, kw_only=True)
class ResnetLongTime(Synthetic):
    """Long training of one net: its weights against the layer, and its loss (Marion et al. 2024, figure 2)."""

    experiment = "resnet_long_time"

    n_train: int = param(50, at_least=1, help="samples; inputs and targets are independent standard normal")
    width: int = param(64, at_least=1, help="width of a layer")
    depth: int = param(64, at_least=2, help="depth L")
    learning_rate: float = param(
        0.005, above=0, help="step of gradient descent; layer gradients are multiplied by the depth too"
    )
    iterations: int = param(80_000, at_least=2, help="iterations of full-batch gradient descent; the script's 10,000")
    record_every: int = param(100, at_least=1, help="iterations between two records of the weights")
    entries: int = param(4, at_least=1, help="entries (i, j) of V and W with i, j below this are recorded")
    checkpoint_every: int = param(2000, at_least=1, identity=False, help="iterations between two checkpoints")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"iterations": 300, "record_every": 10}}

    def check(self) -> None:
        super().check()
        if self.entries > min(self.dim, self.width):
            raise BadInput(f"entries={self.entries}: the matrices have {self.width} x {self.dim} entries")
        if self.records * self.depth * self.entries**2 > MOST_ENTRIES:
            raise BadInput(
                f"record_every={self.record_every}: {self.records} records of {self.depth} x {self.entries} x "
                f"{self.entries} entries do not fit into memory; record less often, or fewer entries"
            )
        if self.record_every > self.iterations:
            raise BadInput(f"record_every={self.record_every}: must be at most iterations={self.iterations}")

    @property
    def records(self) -> int:
        return -(-self.iterations // self.record_every)


@dataclass(frozen=True, kw_only=True)
class CifarResnet(Config):
    """Convolutional residual network on CIFAR-10, tied or independent initial layers (Marion et al. 2024, figure 3)."""

    experiment = "cifar_resnet"
    paper = "residual_limit"
    aliases: ClassVar[Mapping[str, str]] = {
        "planes": "channels", "sigma": "activation", "bn": "batch_norm", "lr": "learning_rate", "wd": "weight_decay",
        "n_epochs": "epochs", "batch": "batch_size", "subset": "n_train", "test_subset": "n_test",
    }  # fmt: skip

    dataset: str = param("cifar10", choices=("cifar10", "synthetic"), help="synthetic: ten classes of drawn images")
    depth: int = param(256, at_least=2, help="residual layers L")
    channels: int = param(16, at_least=1, help="channels")
    activation: str = param(
        "gelu",
        choices=("relu", "gelu", "identity", "tanh", "softplus", "leaky_relu"),
        help="activation between the two convolutions of a layer",
    )
    batch_norm: bool = param(True, help="batch normalisation in the residual layers (the stem always has it)")
    init: str = param("tied", choices=("tied", "iid"), help="layers start equal, or independent")
    learning_rate: float = param(0.04, above=0, at_most=1000, help="at the start; cosine to 0 over the epochs")
    adaptive: bool = param(False, help="learning rate 0.01 outside the residual layers (a flag of the released code)")
    momentum: float = param(0.9, at_least=0, below=1, help="momentum of SGD")
    weight_decay: float = param(5e-4, at_least=0, at_most=1000, help="weight decay, on all parameters")
    epochs: int = param(180, at_least=1, help="epochs")
    batch_size: int = param(64, at_least=2, help="training batch; a smaller last one is kept")
    n_train: int | None = param(None, at_least=10, help="only the first so many training images; none: all")
    n_test: int | None = param(None, at_least=10, help="only the first so many test images; none: all")
    checkpoint_every: int = param(200, at_least=1, identity=False, help="steps between two checkpoints")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # forgets its start as often as the published training does in a tenth of the steps: see docs/residual_limit.md
        "medium": {"depth": 24, "n_train": 20_000, "epochs": 10, "n_test": 2000, "weight_decay": 5e-3},
        "small": {"depth": 32, "n_train": 5000, "epochs": 10, "n_test": 2000},
        "smoke": {"dataset": "synthetic", "depth": 8, "n_train": 640, "epochs": 2, "n_test": 200},
    }

    def check(self) -> None:
        for name, most in (("n_train", 50_000), ("n_test", 10_000)):
            if (getattr(self, name) or 0) > most:
                raise BadInput(f"{name}={getattr(self, name)}: there are {most} images")
        if self.batch_size > (self.n_train or 50_000):
            raise BadInput(f"batch_size={self.batch_size}: there are {self.n_train or 50_000} training images")

    def prepare(self) -> None:
        super().prepare()
        if self.dataset == "cifar10":
            from reprod.data import images

            images.ensure("cifar10", self.data_dir)


@dataclass(frozen=True, kw_only=True)
class ResnetTheory(Config):
    """Closed forms, the ReLU counter-example, the limit of Euler's method (Marion et al. 2024, sections 3 and 4)."""

    experiment = "resnet_theory"
    paper = "residual_limit"

    aliases: ClassVar[Mapping[str, str]] = {"n": "n_train", "d": "dim", "m": "width"}

    target: float = param(
        2.0, above=1, at_most=16, help="C of the ReLU counter-example: the target is C x, as far as its step converges"
    )
    half_depth: int = param(64, at_least=2, at_most=10_000, help="L of the ReLU counter-example, which has 2 L layers")
    depths: tuple[int, ...] = param(
        tuple(2**k for k in range(3, 10)), at_least=2, help="depths of the net that tends to the neural ODE"
    )
    n_train: int = param(100, at_least=1, help="samples")
    dim: int = param(16, at_least=8, help="dimension; in less, the checks of means need wider tolerances")
    width: int = param(32, at_least=8, help="width")
    lengthscale: float = param(
        0.5, at_least=0.1, at_most=10, help="of the smooth weights of the limit, a Gaussian process in s"
    )
    device: str = param("auto", identity=False, help="auto or cpu: nets this small are computed on the processor")
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def check(self) -> None:
        _distinct(self.depths)
        if self.device not in ("auto", "cpu"):
            raise BadInput(f"device={self.device}: resnet_theory computes on the processor; use device=cpu or auto")


def _distinct(depths: tuple[int, ...]) -> None:
    if len(depths) < 2 or len(set(depths)) != len(depths) or list(depths) != sorted(depths):
        raise BadInput(f"depths={','.join(map(str, depths))}: give at least two, each once, in ascending order")
