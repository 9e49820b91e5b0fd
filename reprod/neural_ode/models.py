"""Networks of Ott et al. 2021: the input itself is the state of z' = f(z), one affine map reads the final state.

    logits = f_d(z(1)),   z' = f(z; w),   z(0) = x

`SimpleOdeNet` (vectors, tied by a convolution), `LinearOdeNet` (vectors, dense) and `OdeNet` (images) differ in f. A
model is built from plain JSON-able arguments (kept in `model.arguments`), so that `type(model)(**model.arguments)` and
a state dict restore it. It solves with the solver that it was trained with, unless another is asked for:

    model(x)                                    # as trained
    model(x, solver="rk4", step_size=1 / 256)   # the same weights under another solver
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprod.neural_ode import solvers
from reprod.neural_ode.solvers import SOLVERS, Evaluations, Field, SolverSetting
from reprod.training import torch_stream

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.01),
    "sigmoid": torch.sigmoid,
}
INITS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "kaiming": lambda w, scale, g: nn.init.kaiming_normal_(w, generator=g),  # N(0, 2 / fan_in)
    "normal": lambda w, scale, g: nn.init.normal_(w, 0.0, scale, generator=g),
    "xavier": lambda w, scale, g: nn.init.xavier_normal_(w, scale, generator=g),
    "orthogonal": lambda w, scale, g: nn.init.orthogonal_(w, scale, generator=g),
}
PRECISIONS = ("fp32", "tf32", "bf16", "fp64")
EXPORTED_EVALUATIONS = 32  # longest solve that is exported for MLflow
DENSE_UP_TO = 10  # dimensions up to which a convolution is faster written as dense matrices

# first, middle and last layer of a field as (in, out) matrices and biases: A1, b1, A2, b2, A3, b3
Dense = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def dense_field(matrices: Dense, activation: str) -> Field:
    """z -> act(act(z A1 + b1) A2 + b2) A3 + b3 on the last axis of z."""
    a1, b1, a2, b2, a3, b3 = matrices
    act = ACTIVATIONS[activation]
    return lambda z: act(act(z @ a1 + b1) @ a2 + b2) @ a3 + b3


def tied_matrices(dim: int, parameters: Dense) -> Dense:
    """The convolutional field on (1, d) as dense matrices on d, with hidden layers of d positions x C channels.

    parameters: weights and biases of the three Conv1d layers, (C,1,1) (C,) (C,C,3) (C,) (1,C,1) (1,). Position i of a
    hidden layer reaches position j through tap k = i - j + 1, so that for d = 2 the middle matrix is
    [[W1, W0], [W2, W1]] with Wk = tap k of shape (in, out).
    """
    first, b1, middle, b2, last, b3 = parameters
    channels = len(b1)
    eye = torch.eye(dim, dtype=b1.dtype, device=b1.device)
    taps = torch.stack([torch.diag(b1.new_ones(dim - abs(offset)), offset) for offset in (1, 0, -1)])
    a1 = torch.einsum("ij,c->ijc", eye, first[:, 0, 0]).reshape(dim, dim * channels)
    a2 = torch.einsum("kij,cak->iajc", taps, middle).reshape(dim * channels, dim * channels)
    a3 = torch.einsum("ij,c->icj", eye, last[0, :, 0]).reshape(dim * channels, dim)
    return a1, b1.repeat(dim), a2, b2.repeat(dim), a3, b3.repeat(dim)


class ConvField(nn.Module):
    """Conv k1 (c -> C), act, Conv k3 with zero padding (C -> C), act, Conv k1 (C -> c); one or two dimensions."""

    def __init__(self, conv: type[nn.Conv1d] | type[nn.Conv2d], inputs: int, channels: int, activation: str):
        super().__init__()
        self.activation = activation
        self.first = nn.utils.skip_init(conv, inputs, channels, 1)
        self.middle = nn.utils.skip_init(conv, channels, channels, 3, padding=1)
        self.last = nn.utils.skip_init(conv, channels, inputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        return self.last(act(self.middle(act(self.first(z)))))

    def prepared(self, z: Tensor) -> Field:
        """The fastest form of this field for states like z, valid until the parameters change."""
        if z.dim() == 3 and z.shape[-1] <= DENSE_UP_TO:
            return dense_field(self.dense(z.shape[-1]), self.activation)
        return self

    def dense(self, dim: int) -> Dense:
        """For vectors of d numbers: see `tied_matrices`."""
        layers = (self.first, self.middle, self.last)
        parameters = tuple(p for layer in layers for p in (layer.weight, layer.bias))
        return tied_matrices(dim, parameters)


class LinearField(nn.Module):
    """Linear d -> C, act, Linear C -> C, act, Linear C -> d."""

    def __init__(self, dim: int, channels: int, activation: str):
        super().__init__()
        self.activation = activation
        self.first = nn.utils.skip_init(nn.Linear, dim, channels)
        self.middle = nn.utils.skip_init(nn.Linear, channels, channels)
        self.last = nn.utils.skip_init(nn.Linear, channels, dim)

    def forward(self, z: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        return self.last(act(self.middle(act(self.first(z)))))

    def prepared(self, z: Tensor) -> Field:
        return self

    def dense(self, dim: int) -> Dense:
        first, middle, last = self.first, self.middle, self.last
        return first.weight.T, first.bias, middle.weight.T, middle.bias, last.weight.T, last.bias


class OdeClassifier(nn.Module):
    """A field, the solver with which it is trained, and the affine classifier of the final state."""

    field: ConvField | LinearField

    def __init__(
        self,
        field: ConvField | LinearField,
        size: int,
        n_classes: int,
        arguments: dict[str, Any],
        generator: torch.Generator | None,
    ):
        super().__init__()
        self.field = field
        self.classifier = nn.utils.skip_init(nn.Linear, size, n_classes)
        self.arguments = arguments
        initialise(self, generator, arguments["init"], arguments["init_scale"])
        if arguments["precision"] == "fp64":
            self.double()  # after drawing: the same weights start in every precision

    @property
    def exportable(self) -> bool:
        """Whether `torch.export` can write this model without pickle: a solve must be a fixed, short list of
        operations. An adaptive solver's steps depend on the data, and hundreds of steps would take minutes."""
        own, solver = self.arguments, SOLVERS[self.arguments["solver"]]
        if solver.adaptive or own["precision"] == "bf16":
            return False
        return solvers.n_steps(own["step_size"]) * solver.evaluations <= EXPORTED_EVALUATIONS

    def forward(
        self, x: Tensor, solver: str | None = None, step_size: float | None = None, tol: float | None = None
    ) -> Tensor:
        """Logits (B, n_classes) of inputs x: as trained, or with another solver, another step or tolerance."""
        z, _ = self.flow(x, self.setting(solver, step_size, tol))
        return self.classify(z)

    def classify(self, z: Tensor) -> Tensor:
        """Logits of final states."""
        return self.classifier(z.flatten(1))

    def flow(self, x: Tensor, setting: SolverSetting | None = None) -> tuple[Tensor, Evaluations]:
        """Final states z(1), shaped as x, and the evaluations that they took."""
        z, field = self._start(x)
        return solvers.solve(
            field,
            z,
            setting or self.setting(),
            adjoint=self.arguments["adjoint"] and torch.is_grad_enabled(),
            parameters=tuple(self.field.parameters()),
            clip_last_step=self.arguments["clip_last_step"],
        )

    def trajectory(self, x: Tensor, setting: SolverSetting | None = None, points: int = 65) -> Tensor:
        """States along the solve, (n + 1, *x.shape): at the nodes of a fixed-step solver, else at `points` times."""
        z, field = self._start(x)
        return solvers.trajectory(field, z, setting or self.setting(), points=points)

    def setting(
        self, solver: str | None = None, step_size: float | None = None, tol: float | None = None
    ) -> SolverSetting:
        """What to solve with: what is given, else what the model was trained with."""
        own = self.arguments
        name = solver or own["solver"]
        if name not in SOLVERS:
            raise ValueError(f"there is no solver {name!r}: {', '.join(SOLVERS)}")
        given, kind, other = (tol, "tol", step_size) if SOLVERS[name].adaptive else (step_size, "step_size", tol)
        if other is not None:
            raise ValueError(f"solver {name} takes {kind}, and no other")
        value = given if given is not None else own[kind]
        if value is None:
            raise ValueError(f"solver {name} needs {kind}: this model was trained without one")
        return SolverSetting(name, value)

    def _start(self, x: Tensor) -> tuple[Tensor, Field]:
        z = x.to(self.classifier.weight.dtype)
        if z.dim() == 4:
            z = z.contiguous(memory_format=torch.channels_last)
        field = self.field.prepared(z)
        if self.arguments["precision"] != "bf16":
            return z, field

        def low_precision(z: Tensor) -> Tensor:
            """The field's products in bfloat16; the state stays in float32, which a sum of many small steps needs."""
            with torch.autocast(z.device.type, torch.bfloat16):
                return field(z).to(z.dtype)

        return z, low_precision


def _arguments(local: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in local.items() if name not in ("self", "generator", "__class__")}


class SimpleOdeNet(OdeClassifier):
    """Vectors of d numbers, x (B, 1, d), hidden width 32 channels at each of the d positions."""

    def __init__(
        self,
        *,
        dim: int = 2,
        n_classes: int = 2,
        channels: int = 32,
        activation: str = "relu",
        init: str = "kaiming",
        init_scale: float = 0.02,
        solver: str = "euler",
        step_size: float | None = 1 / 64,
        tol: float | None = None,
        adjoint: bool = False,
        clip_last_step: bool = False,
        precision: str = "fp32",
        generator: torch.Generator | None = None,
    ):
        arguments = _arguments(locals())
        super().__init__(ConvField(nn.Conv1d, 1, channels, activation), dim, n_classes, arguments, generator)


class LinearOdeNet(OdeClassifier):
    """Vectors of d numbers, x (B, 1, d), with an untied field."""

    def __init__(
        self,
        *,
        dim: int = 2,
        n_classes: int = 2,
        channels: int = 32,
        activation: str = "relu",
        init: str = "kaiming",
        init_scale: float = 0.02,
        solver: str = "euler",
        step_size: float | None = 1 / 64,
        tol: float | None = None,
        adjoint: bool = False,
        clip_last_step: bool = False,
        precision: str = "fp32",
        generator: torch.Generator | None = None,
    ):
        arguments = _arguments(locals())
        super().__init__(LinearField(dim, channels, activation), dim, n_classes, arguments, generator)


class OdeNet(OdeClassifier):
    """Images x (B, c, H, W), shape = (c, H, W), with values in [0, 1]."""

    def __init__(
        self,
        *,
        shape: tuple[int, int, int] = (3, 32, 32),
        n_classes: int = 10,
        channels: int = 128,
        activation: str = "relu",
        init: str = "kaiming",
        init_scale: float = 0.02,
        solver: str = "dopri5",
        step_size: float | None = None,
        tol: float | None = 1e-3,
        adjoint: bool = False,
        clip_last_step: bool = False,
        precision: str = "fp32",
        generator: torch.Generator | None = None,
    ):
        shape = tuple(shape)  # type: ignore[assignment]  # JSON makes it a list
        arguments = _arguments(locals())
        field = ConvField(nn.Conv2d, shape[0], channels, activation)
        super().__init__(field, math.prod(shape), n_classes, arguments, generator)
        self.to(memory_format=torch.channels_last)


NETWORKS: dict[str, Callable[..., OdeClassifier]] = {
    "simple_odenet": SimpleOdeNet,
    "linear_odenet": LinearOdeNet,
    "odenet": OdeNet,
}


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator | None, init: str = "kaiming", scale: float = 0.02) -> None:
    """Draw every weight of the model, the classifier's included, and set every bias to zero. `scale` is the standard
    deviation or gain of the inits other than kaiming."""
    generator = generator or torch_stream(0, "init")
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        else:
            INITS[init](parameter, scale, generator)
