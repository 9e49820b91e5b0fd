"""Parameters of the experiments of Ott et al. 2021. The defaults are the paper's settings (spec sections 2 to 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from reprod.config import Config, param
from reprod.errors import BadInput

FIXED = ("euler", "midpoint", "rk4")
ADAPTIVE = ("fehlberg2", "dopri5", "bosh3", "adaptive_heun")
SPHERES = (
    "concentric_sphere2", "concentric_sphere3", "concentric_sphere10", "concentric_sphere900", "three_minima",
)  # fmt: skip
PLANE = ("concentric_sphere2", "three_minima")  # sets of points in the plane: their trajectories can be drawn
FINER = {"euler": ("euler", "midpoint", "rk4"), "fehlberg2": ("fehlberg2", "dopri5")}  # else the solver alone

MOST_STEPS = 10_000  # of a training's solve: back-propagation keeps every state
MOST_TEST_STEPS = 1_000_000
FINEST_IN_FP32 = 1e-9  # a hundredth of float32's rounding: solves of a finer tolerance never end
BF16 = 2.0**-8  # rounding of bfloat16, relative
CHECKED_BY = {"euler": "midpoint", "midpoint": "rk4"}  # the test solver of the paper's step adaptation


@dataclass(frozen=True, kw_only=True)
class NeuralOde(Config):
    """A Neural ODE, trained through a numerical solver and tested with others."""

    paper = "neural_ode"
    aliases: ClassVar[Mapping[str, str]] = {  # the names of the original's scripts, and of our first versions
        "lr": "learning_rate", "niter": "iterations", "ch_residual_block": "channels", "act": "activation",
        "init_type": "init", "init_variance": "init_scale", "adaption_interval": "adapt_every",
        "test_solver_list": "test_solvers", "test_factor_list": "test_factors", "random_seed": "seeds",
        "model_checkpoint_freq": "checkpoint_every",
    }  # fmt: skip

    solver: str = param("euler", choices=FIXED + ADAPTIVE, help="solver that trains the network")
    step_size: float | None = param(
        None,
        at_least=1 / MOST_STEPS,
        below=math.inf,
        help="step of a fixed-step solver on [0, 1]; from 1 on it is one",
    )
    tol: float | None = param(None, above=0, at_most=1, help="absolute and relative tolerance of an adaptive solver")
    adjoint: bool = param(False, help="back-propagate by the adjoint ODE instead of through the solver")
    clip_last_step: bool = param(False, help="let an adaptive solver step onto the end instead of beyond it")
    adaptation: str = param(
        "none", choices=("none", "step", "tolerance"), help="adapt the step or the tolerance while training"
    )
    adapt_every: int = param(50, at_least=1, help="iterations between two checks of the solver")
    threshold: float = param(0.1, at_least=-1, help="change of the batch accuracy at which the solver is refined")
    max_steps: int = param(
        500, at_least=1, at_most=MOST_STEPS, help="steps that the step adaptation begins with and approaches at most"
    )
    check_with: str = param("auto", choices=("auto", "midpoint", "rk4"), help="solver that checks the step adaptation")
    initial_tol: float = param(1e-6, above=0, at_most=1, help="tolerance at which the tolerance adaptation starts")
    test_solvers: tuple[str, ...] = param(
        (), choices=FIXED + ADAPTIVE, help="solvers to test with; none: the paper's for the training solver"
    )
    test_factors: tuple[float, ...] = param(
        (),
        above=0,
        below=math.inf,
        help="test step or tolerance over that of training; none: 0.5,0.75,1,1.5,2 or 0.1,1,10",
    )
    factor_on: str = param("step", choices=("step", "nsteps"), help="whether factors multiply the step or the steps")
    channels: int = param(128, at_least=1, help="channels of the hidden layers")
    activation: str = param("relu", choices=("relu", "leaky_relu", "sigmoid"), help="activation of the field")
    init: str = param("kaiming", choices=("kaiming", "normal", "xavier", "orthogonal"), help="initial weights")
    init_scale: float = param(0.02, above=0, below=math.inf, help="scale of the initial weights other than kaiming's")
    learning_rate: float = param(1e-4, above=0, help="learning rate of Adam")
    batch_size: int = param(256, at_least=1, help="examples in a mini-batch")
    iterations: int = param(7800, at_least=1, help="iterations")
    eval_every: int = param(195, at_least=1, help="iterations between two evaluations on the test set")
    probe: int = param(
        2000,
        at_least=1,
        help="test examples (all, if there are fewer) with which each check of an adaptation is described",
    )
    data_seed: int = param(0, at_least=0, help="seed of generated data sets")
    precision: str = param(
        "fp32", choices=("fp32", "tf32", "bf16", "fp64"), help="bf16: the field's products alone, on float32 states"
    )

    def check(self) -> None:
        adaptive = self.solver in ADAPTIVE
        if self.adaptation == "step" and self.solver not in ("euler", "midpoint"):
            raise BadInput(f"adaptation=step works with solver=euler or midpoint, not {self.solver}")
        if self.adaptation == "step" and (self.solver, self.check_with) == ("midpoint", "midpoint"):
            raise BadInput("check_with=midpoint cannot check solver=midpoint; use rk4")
        if self.adaptation == "tolerance" and self.solver not in ("fehlberg2", "dopri5"):
            raise BadInput(f"adaptation=tolerance works with solver=fehlberg2 or dopri5, not {self.solver}")
        if self.adaptation == "none" and not adaptive and self.step_size is None:
            raise BadInput(f"solver={self.solver} needs step_size")
        if self.adaptation == "none" and adaptive and self.tol is None:
            raise BadInput(f"solver={self.solver} needs tol")
        if self.adaptation != "none" and self.adapt_every > self.iterations:
            raise BadInput(f"adapt_every={self.adapt_every} is more than iterations={self.iterations}: nothing adapts")
        if self.adaptation == "none":
            self._check_tests((self.tol if adaptive else self.step_size) or 1.0)
        loosest = self.initial_tol if self.adaptation == "tolerance" else self.tol
        if self.precision == "bf16" and adaptive and loosest is not None and loosest < BF16:
            raise BadInput(
                f"precision=bf16 rounds the field to {BF16:.2g}, solver={self.solver} cannot keep to a tolerance of "
                f"{loosest:g}: use precision=fp32 or tf32, or a fixed-step solver"
            )
        for solver in self.test_solvers:
            if (solver in ADAPTIVE) != adaptive:
                kind = "an adaptive" if adaptive else "a fixed-step"
                raise BadInput(
                    f"test_solvers={','.join(self.test_solvers)}: solver={self.solver} needs {kind} test solver"
                )

    def _check_tests(self, value: float) -> None:
        """That the tests, with these factors on the step or tolerance, end."""
        factors = self.factors_to_test()
        finest = value * min(factors) if self.factor_on == "step" else value / max(factors)
        if self.solver in ADAPTIVE:
            if self.precision != "fp64" and finest < FINEST_IN_FP32:
                raise BadInput(
                    f"tol={value:g}, tested with {finest:.2g}: precision={self.precision} cannot keep to less than "
                    f"{FINEST_IN_FP32:g}; use precision=fp64, a larger tol or larger test_factors"
                )
        elif finest * MOST_TEST_STEPS < 1:
            raise BadInput(
                f"test_factors={','.join(f'{f:g}' for f in factors)}: a test would take over {MOST_TEST_STEPS} steps"
            )

    def prepare(self) -> None:
        super().prepare()
        if self.precision == "tf32" and self.computes_on() == "cpu":
            raise BadInput("precision=tf32 needs a GPU, and this run computes on the processor: use precision=fp32")

    def computes_on(self) -> str:
        """The device that `auto` means here: a GPU where there is one."""
        from reprod.machine import device_of

        return str(device_of(self.device))

    def unused(self) -> set[str]:
        adaptive = self.solver in ADAPTIVE
        left_out = {"step_size"} if adaptive else {"tol", "clip_last_step"}
        if self.check_with in ("auto", CHECKED_BY.get(self.solver)):
            left_out |= {"check_with"}  # one and the same
        if self.adaptation == "none":
            left_out |= {"adapt_every", "threshold", "max_steps", "check_with", "initial_tol", "probe"}
        if self.adaptation == "step":
            left_out |= {"step_size", "initial_tol"}
        if self.adaptation == "tolerance":
            left_out |= {"tol", "max_steps", "check_with"}
        return left_out | ({"init_scale"} if self.init == "kaiming" else set())

    def solvers_to_test(self) -> tuple[str, ...]:
        return self.test_solvers or FINER.get(self.solver, (self.solver,))

    def factors_to_test(self) -> tuple[float, ...]:
        return self.test_factors or ((0.1, 1.0, 10.0) if self.solver in ADAPTIVE else (0.5, 0.75, 1.0, 1.5, 2.0))


@dataclass(frozen=True, kw_only=True)
class SphereOde(NeuralOde):
    """Neural ODE on concentric spheres or three minima (Ott et al. 2021, figures 1, 2, 4 a, 4 b and table 1)."""

    experiment = "sphere_ode"

    dataset: str = param("concentric_sphere2", choices=SPHERES, help="spheres in 2, 3, 10 or 900 dimensions, or basins")
    data_scale: float = param(1.0, above=0, at_most=1e6, help="factor on the points of the spheres")
    network: str = param("simple_odenet", choices=("simple_odenet", "linear_odenet"), help="tied or dense field")
    step_size: float | None = param(
        1 / 64, at_least=1 / MOST_STEPS, below=math.inf,
        help="step of a fixed-step solver on [0, 1]; from 1 on it is one",
    )  # fmt: skip
    channels: int = param(32, at_least=1, help="channels of the hidden layers")
    batch_size: int = param(128, at_least=1, at_most=2000, help="examples in a mini-batch")
    iterations: int = param(10_000, at_least=1, help="iterations")
    eval_every: int = param(50, at_least=1, help="iterations between two evaluations on the test set")
    curve_steps: int = param(
        4096,
        at_least=1,
        at_most=MOST_TEST_STEPS,
        help="largest number of Euler steps of the accuracy curve of figure 1",
    )
    n_trajectories: int = param(200, at_least=1, at_most=1000, help="test points whose trajectories are kept")

    def unused(self) -> set[str]:
        left_out = super().unused()
        if self.dataset == "three_minima":
            left_out |= {"data_scale"}
        if self.dataset not in PLANE:
            left_out |= {"n_trajectories"}
        return left_out if self.has_curve else left_out | {"curve_steps"}

    def computes_on(self) -> str:
        """Small networks are latency alone on a GPU: `auto` leaves them on the processor."""
        tiny = self.dataset != "concentric_sphere900"
        return "cpu" if self.device == "auto" and tiny else super().computes_on()

    @property
    def has_curve(self) -> bool:
        """Whether the accuracy is evaluated by number of Euler steps (figure 1): the small networks' under fixed-step
        solvers, differentiated through the solver."""
        small = self.dataset != "concentric_sphere900" and self.precision in ("fp32", "fp64")
        return small and not self.adjoint and self.solver not in ADAPTIVE

    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"iterations": 3000, "learning_rate": 5e-4},
        "smoke": {
            "iterations": 40, "channels": 8, "learning_rate": 1e-2, "eval_every": 20, "curve_steps": 16,
            "n_trajectories": 20, "adapt_every": 10, "probe": 100,
        },
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Images(NeuralOde):
    """What the image sets share."""

    dataset: ClassVar[str] = ""

    n_train: int | None = param(None, at_least=1, help="only the first so many training images; none: all")
    n_test: int | None = param(None, at_least=1, help="only the first so many test images; none: all")
    solver: str = param("dopri5", choices=FIXED + ADAPTIVE, help="solver that trains the network")
    tol: float | None = param(1e-3, above=0, at_most=1, help="absolute and relative tolerance of an adaptive solver")

    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "medium": {  # long enough for the collapse to stand out from the spread over seeds
            "channels": 16, "batch_size": 128, "learning_rate": 1e-3, "iterations": 1500, "eval_every": 150,
            "n_test": 2000, "probe": 500,
        },
        "small": {
            "channels": 16, "batch_size": 128, "learning_rate": 1e-3, "iterations": 300, "eval_every": 50,
            "n_test": 1000, "probe": 500,
        },
        "smoke": {
            "channels": 4, "batch_size": 16, "learning_rate": 1e-2, "iterations": 4, "eval_every": 2, "n_train": 64,
            "n_test": 32, "adapt_every": 2, "probe": 16,
        },
    }  # fmt: skip

    n_images: ClassVar[tuple[int, int]] = (0, 0)  # training and test images that there are

    def work(self) -> float:
        """Images through the field, three times for a gradient, by the products and the memory of its convolutions."""
        trained = 3.0 * self.batch_size * self.iterations
        tested = self.iterations / self.eval_every * (self.n_test or 10_000)
        return (trained + tested) * self.channels * (self.channels + 40)

    def check(self) -> None:
        super().check()
        for name, there in zip(("n_train", "n_test"), self.n_images, strict=True):
            if (getattr(self, name) or 0) > there:
                raise BadInput(f"{name}={getattr(self, name)}: {self.dataset} has {there}")
        if self.batch_size > (self.n_train or self.n_images[0]):
            raise BadInput(f"batch_size={self.batch_size} is more than n_train={self.n_train or self.n_images[0]}")

    def unused(self) -> set[str]:
        return super().unused() | {"data_seed"}  # nothing of these sets is generated

    def prepare(self) -> None:
        super().prepare()
        from reprod.data import images

        images.ensure(self.dataset, self.data_dir)


@dataclass(frozen=True, kw_only=True)
class CifarOde(Images):
    """Neural ODE on CIFAR-10 (Ott et al. 2021, figures 4 c, 4 d, 5 and table 1)."""

    experiment = "cifar_ode"
    dataset: ClassVar[str] = "cifar10"
    n_images: ClassVar[tuple[int, int]] = (50_000, 10_000)


@dataclass(frozen=True, kw_only=True)
class MnistOde(Images):
    """Neural ODE on MNIST (Ott et al. 2021, first version)."""

    experiment = "mnist_ode"
    dataset: ClassVar[str] = "mnist"
    n_images: ClassVar[tuple[int, int]] = (60_000, 10_000)


@dataclass(frozen=True, kw_only=True)
class XorFan(Config):
    """Lady Windermere's fan on XOR: separable by the solver's error alone (Ott et al. 2021, figure 3)."""

    experiment = "xor_fan"
    paper = "neural_ode"

    alpha: float = param(0.2, above=-math.inf, below=math.inf, help="growth of the first coordinate")
    beta: float = param(0.2, above=-math.inf, below=math.inf, help="growth of the second coordinate")
    gamma: float = param(15.0, above=0, below=math.inf, help="strength of the rotation")
    delta: float = param(1.0, at_least=0, below=math.inf, help="power of |z| in the rotation")
    end_time: float = param(3.75, above=0, below=math.inf, help="length T of the interval")
    log10_steps: tuple[float, ...] = param(
        (-2.5, -3.5, -4.0, -4.5), above=-6, at_most=0, help="log10 of Euler's step sizes; the limit is added by rk4"
    )

    def check(self) -> None:
        steps = self.log10_steps
        if not steps or len(set(steps)) < len(steps):
            raise BadInput(f"log10_steps={','.join(map(str, steps)) or 'none'}: give each step once, and at least one")
        if self.end_time * 10 ** -min(steps) > 10 * MOST_TEST_STEPS:
            raise BadInput(
                f"end_time={self.end_time:g}, log10_steps={min(steps):g}: that takes over {10 * MOST_TEST_STEPS} steps"
            )
