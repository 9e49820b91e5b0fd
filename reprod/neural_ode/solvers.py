"""Runge-Kutta solvers for autonomous fields z' = f(z) on [0, T] (Ott et al. 2021, section 2).

Fixed-step solvers are a tableau and one loop of ours, through which autograd can run; its steps, values and counts of
evaluations are those of torchdiffeq 0.2. Adaptive solvers and the adjoint are torchdiffeq's.

A field is a callable z -> f(z) on tensors of any shape. The *whole* tensor is one state: an adaptive solver controls
one error for the batch, so that its result depends on the batch (this is the original's behaviour).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

Field = Callable[[Tensor], Tensor]
MAX_EVALUATIONS = 20_000


class SolverFailure(RuntimeError):
    """An adaptive solver needed too many evaluations, too small a step, or met a non-finite state."""


@dataclass(frozen=True)
class Solver:
    """order: of the global error in the step; evaluations: of the field in each step (adaptive: each attempted one).

    a, b: Butcher tableau of a fixed-step solver, k_i = f(z + h sum_j a_ij k_j), z <- z + h sum_i b_i k_i.
    """

    order: int
    evaluations: int
    a: tuple[tuple[float, ...], ...] = ()
    b: tuple[float, ...] = ()

    @property
    def adaptive(self) -> bool:
        return not self.b

    def tableau(self) -> tuple[np.ndarray, np.ndarray]:
        """a (stages, stages), lower triangular, and b (stages,)."""
        a = np.zeros((len(self.b), len(self.b)))
        for i, row in enumerate(self.a):
            a[i, : len(row)] = row
        return a, np.array(self.b)


SOLVERS: dict[str, Solver] = {
    "euler": Solver(1, 1, ((),), (1.0,)),
    "midpoint": Solver(2, 2, ((), (1 / 2,)), (0.0, 1.0)),
    # Kutta's 3/8 rule, which is what torchdiffeq calls rk4
    "rk4": Solver(4, 4, ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
    "adaptive_heun": Solver(2, 1),
    "fehlberg2": Solver(2, 2),
    "bosh3": Solver(3, 3),
    "dopri5": Solver(5, 6),
}


@dataclass(frozen=True)
class SolverSetting:
    """A solver by name, and how finely it solves: its step on [0, 1], or its tolerance (rtol = atol) if it is adaptive.
    Raises `ValueError` for a name that is none, and for a value that is not positive."""

    name: str
    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ValueError(f"solver {self.name} needs {self.kind} > 0, not {self.value}")

    @property
    def scheme(self) -> Solver:
        if self.name not in SOLVERS:
            raise ValueError(f"there is no solver {self.name!r}: {', '.join(SOLVERS)}")
        return SOLVERS[self.name]

    @property
    def kind(self) -> str:
        """What `value` is."""
        return "tol" if self.scheme.adaptive else "step_size"

    def finer(self, factor: float) -> SolverSetting:
        return SolverSetting(self.name, self.value / factor)

    def step_lengths(self, end: float = 1.0) -> list[float]:
        return step_lengths(self.value, end)

    def same_steps(self) -> tuple[str, object]:
        """Equal for two settings that take the same steps: every step of 1 or more is one."""
        return self.name, self.value if self.scheme.adaptive else tuple(self.step_lengths())


@dataclass
class Evaluations:
    """Evaluations of the field in one solve: `forward` in the solve, `backward` in the adjoint's backward solve.

    `backward` grows when the gradient is taken; it stays 0 when autograd runs through the solver.
    """

    forward: int = 0
    backward: int = 0


def n_steps(step_size: float, end: float = 1.0) -> int:
    """ceil(T / h), and one step for every h >= T; the 1e-6 keeps h = 1/n at n in floating point."""
    return max(1, math.ceil(end / step_size - 1e-6))


def step_lengths(step_size: float, end: float = 1.0) -> list[float]:
    """Lengths of the steps between the nodes 0, h, 2h, ..., T: the last one is shortened."""
    n = n_steps(step_size, end)
    return [step_size] * (n - 1) + [end - (n - 1) * step_size if n > 1 else end]


def fixed_step(field: Field, z: Tensor, dt: float, solver: Solver) -> Tensor:
    """One step of length dt."""
    k: list[Tensor] = []
    for row in solver.a:
        k.append(field(_combine(z, row, k, dt)))
    return _combine(z, solver.b, k, dt)


def _combine(z: Tensor, weights: Sequence[float], k: Sequence[Tensor], dt: float) -> Tensor:
    for weight, slope in zip(weights, k, strict=True):
        if weight:
            z = torch.add(z, slope, alpha=dt * weight)
    return z


def solve(
    field: Field,
    z: Tensor,
    setting: SolverSetting,
    *,
    adjoint: bool = False,
    parameters: Sequence[Tensor] | None = None,
    clip_last_step: bool = False,
    max_evaluations: int = MAX_EVALUATIONS,
    end: float = 1.0,
) -> tuple[Tensor, Evaluations]:
    """z(T) of z' = f(z), z(0) = z, and the number of evaluations.

    adjoint: gradients from the backward ODE with the same solver, step and tolerance, with respect to z and
        `parameters` (default: those of `field`, if it is a module); otherwise autograd runs through the solver.
    clip_last_step: an adaptive solver makes its last step end at T. By default it steps past T and interpolates, as
        torchdiffeq does; with a loose tolerance that interpolation is the largest part of the error.
    max_evaluations: an adaptive solve which needs more raises SolverFailure.
    """
    if adjoint or setting.scheme.adaptive:
        states, evaluations = _torchdiffeq(
            field, z, setting, [0.0, end], adjoint, parameters, clip_last_step, max_evaluations
        )
        return states[-1], evaluations
    lengths = setting.step_lengths(end)
    for dt in lengths:
        z = fixed_step(field, z, dt, setting.scheme)
    return z, Evaluations(len(lengths) * setting.scheme.evaluations)


def trajectory(field: Field, z: Tensor, setting: SolverSetting, *, points: int = 65, end: float = 1.0) -> Tensor:
    """States along the solve, (n + 1, *z.shape): at every node of a fixed-step solver; at `points` equal times,
    interpolated, of an adaptive one."""
    if setting.scheme.adaptive:
        times = torch.linspace(0.0, end, points, dtype=torch.float64).tolist()
        return _torchdiffeq(field, z, setting, times, False, None, False, MAX_EVALUATIONS)[0]
    states = [z]
    for dt in setting.step_lengths(end):
        states.append(fixed_step(field, states[-1], dt, setting.scheme))
    return torch.stack(states)


class _Counted(nn.Module):
    """f(t, z) for torchdiffeq, with every call counted. It is not asked for parameters: they are passed on."""

    def __init__(self, field: Field, evaluations: Evaluations, limit: float):
        super().__init__()
        self.field = (field,)  # in a tuple: a submodule would be registered and its parameters found twice
        self.evaluations, self.limit = evaluations, limit
        self.phase = "forward"
        self.remark = ""

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        count = getattr(self.evaluations, self.phase) + 1
        if count > self.limit:
            raise SolverFailure(f"more than {self.limit:g} evaluations of the field in one solve{self.remark}")
        setattr(self.evaluations, self.phase, count)
        return self.field[0](z)


def _torchdiffeq(
    field: Field,
    z: Tensor,
    setting: SolverSetting,
    times: Sequence[float],
    adjoint: bool,
    parameters: Sequence[Tensor] | None,
    clip_last_step: bool,
    max_evaluations: int,
) -> tuple[Tensor, Evaluations]:
    evaluations = Evaluations()
    adaptive = setting.scheme.adaptive
    counted = _Counted(field, evaluations, max_evaluations if adaptive else math.inf)
    t = torch.tensor(times, dtype=torch.float64, device=z.device)
    options: dict[str, object] = {}
    keywords: dict[str, object] = {}
    if adaptive:
        keywords["rtol"] = keywords["atol"] = setting.value
        if setting.value < (rounding := torch.finfo(z.dtype).eps):
            kind = str(z.dtype).removeprefix("torch.")
            counted.remark = f": {kind} rounds by {rounding:.1g}, more than the tolerance; use a larger one"
        if clip_last_step:
            options["step_t"] = torch.tensor([times[0], times[-1]], dtype=torch.float64, device=z.device)
    else:
        h = setting.value

        def grid(func: object, y0: Tensor, t: Tensor) -> Tensor:
            """Our nodes, from whichever end the solve starts (the adjoint starts at T)."""
            span = float(t[-1] - t[0])
            inner = [math.copysign(i * h, span) for i in range(n_steps(h, abs(span)))]
            return torch.cat([t[0] + t.new_tensor(inner), t[-1:]])

        options["grid_constructor"] = grid
    if adjoint:
        if parameters is None:
            parameters = tuple(field.parameters()) if isinstance(field, nn.Module) else ()
        keywords["adjoint_params"] = tuple(p for p in parameters if p.requires_grad)
    try:
        integrate = odeint_adjoint if adjoint else odeint
        states = integrate(counted, z, t, method=setting.name, options=options, **keywords)
    except AssertionError as error:  # torchdiffeq: step underflow, non-finite state
        raise SolverFailure(str(error).split(":")[0] + counted.remark) from error
    counted.phase = "backward"
    return states, evaluations
