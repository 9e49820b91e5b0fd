"""Runge-Kutta solvers for autonomous fields z' = f(z) on [0, T] (Ott et al. 2021, section 2).

A solver is a tableau; one loop of ours runs the fixed-step ones and one the adaptive ones, and autograd runs through
both. Steps, values, gradients and counts of evaluations are those of torchdiffeq 0.2, to which the tests hold them;
slopes are kept apart instead of in one strided array, which saves a quarter of the time on images. The adjoint is
torchdiffeq's.

A field is a callable z -> f(z) on tensors of any shape. The *whole* tensor is one state: an adaptive solver controls
one error for the batch, so that its result depends on the batch (this is the original's behaviour).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

Field = Callable[[Tensor], Tensor]
Number = float | Tensor
MAX_EVALUATIONS = 20_000


class SolverFailure(RuntimeError):
    """An adaptive solver needed too many evaluations, too small a step, or met a non-finite state."""


@dataclass(frozen=True)
class Solver:
    """order: of the global error in the step; evaluations: of the field in each step (adaptive: each attempted one).

    a, b: Butcher tableau, k_i = f(z + h sum_j a_ij k_j), z <- z + h sum_i b_i k_i. An adaptive solver has weights
    `error`, whose h sum_i error_i k_i estimates the local error, and `mid`, which give the state half-way for its
    interpolant; its last slope is taken as the first one of the next step.
    """

    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    error: tuple[float, ...] = ()
    mid: tuple[float, ...] = ()

    @property
    def adaptive(self) -> bool:
        return bool(self.error)

    @property
    def evaluations(self) -> int:
        return len(self.a) - self.adaptive


SOLVERS: dict[str, Solver] = {
    "euler": Solver(1, ((),), (1.0,)),
    "midpoint": Solver(2, ((), (1 / 2,)), (0.0, 1.0)),
    # Kutta's 3/8 rule, which is what torchdiffeq calls rk4
    "rk4": Solver(4, ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
    "adaptive_heun": Solver(2, ((), (1.0,)), (1 / 2, 1 / 2), error=(1 / 2, -1 / 2), mid=(1 / 2, 0.0)),
    "fehlberg2": Solver(
        2,
        ((), (1 / 2,), (1 / 256, 255 / 256)),
        (1 / 512, 255 / 256, 1 / 512),
        error=(-1 / 512, 0.0, 1 / 512),
        mid=(0.0, 1 / 2, 0.0),
    ),
    "bosh3": Solver(
        3,
        ((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        (2 / 9, 1 / 3, 4 / 9, 0.0),
        error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
        mid=(0.0, 1 / 2, 0.0, 0.0),
    ),
    "dopri5": Solver(  # Dormand and Prince; `error` and `mid` are Shampine's
        5,
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
        error=(
            35 / 384 - 1951 / 21600,
            0.0,
            500 / 1113 - 22642 / 50085,
            125 / 192 - 451 / 720,
            -2187 / 6784 + 12231 / 42400,
            11 / 84 - 649 / 6300,
            -1 / 60,
        ),
        mid=(
            6025192743 / 30085553152 / 2,
            0.0,
            51252292925 / 65400821598 / 2,
            -2691868925 / 45128329728 / 2,
            187940372067 / 1594534317056 / 2,
            -1776094331 / 19743644256 / 2,
            11237099 / 235043384 / 2,
        ),
    ),
}
FIXED = tuple(name for name, solver in SOLVERS.items() if not solver.adaptive)
ADAPTIVE = tuple(name for name, solver in SOLVERS.items() if solver.adaptive)


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
    return [step_size] * (n - 1) + [end - (n - 1) * step_size]


def fixed_step(field: Field, z: Tensor, dt: float, solver: Solver) -> Tensor:
    """One step of length dt."""
    k: list[Tensor] = []
    for row in solver.a:
        k.append(field(_combine(z, row, k, dt)))
    return _combine(z, solver.b, k, dt)


def _combine(z: Tensor, weights: Sequence[Number], k: Sequence[Tensor], dt: Number) -> Tensor:
    """z + dt sum_i weights_i k_i."""
    if isinstance(dt, Tensor):  # in the graph: its gradient is one sum over the whole slope
        return torch.addcmul(z, _combine(torch.zeros_like(z), weights, k, 1.0), dt.to(z.dtype))
    for weight, slope in zip(weights, k, strict=True):
        if isinstance(weight, Tensor):
            z = torch.addcmul(z, slope, (dt * weight).to(z.dtype))
        elif weight:
            z = torch.add(z, slope, alpha=dt * weight)
    return z


def solve(
    field: Field,
    z: Tensor,
    solver: str,
    *,
    step_size: float | None = None,
    tol: float | None = None,
    adjoint: bool = False,
    parameters: Sequence[Tensor] | None = None,
    clip_last_step: bool = False,
    max_evaluations: int = MAX_EVALUATIONS,
    end: float = 1.0,
) -> tuple[Tensor, Evaluations]:
    """z(T) of z' = f(z), z(0) = z, and the number of evaluations.

    solver: a key of SOLVERS; fixed-step ones need `step_size`, adaptive ones `tol` (= rtol = atol).
    adjoint: gradients from the backward ODE with the same solver, step and tolerance, with respect to z and
        `parameters` (default: those of `field`, if it is a module); otherwise autograd runs through the solver.
    clip_last_step: an adaptive solver makes its last step end at T. By default it steps past T and interpolates, as
        torchdiffeq does; with a loose tolerance that interpolation is the largest part of the error.
    max_evaluations: an adaptive solve which needs more raises SolverFailure.
    """
    scheme = SOLVERS[solver]
    if adjoint:
        states, evaluations = _torchdiffeq(
            field, z, solver, [0.0, end], step_size, tol, True, parameters, clip_last_step, max_evaluations
        )
        return states[-1], evaluations
    if scheme.adaptive:
        return _adaptive(field, z, scheme, _given(tol, solver, "tol"), end, clip_last_step, max_evaluations)
    lengths = step_lengths(_given(step_size, solver, "step_size"), end)
    for dt in lengths:
        z = fixed_step(field, z, dt, scheme)
    return z, Evaluations(len(lengths) * scheme.evaluations)


def _adaptive(
    field: Field, z: Tensor, scheme: Solver, tol: float, end: float, clip_last_step: bool, max_evaluations: int
) -> tuple[Tensor, Evaluations]:
    """One state for the whole tensor, with E = RMS of error_i / (tol + tol max(|z_i|, |z_new_i|)). A step is accepted
    if E <= 1; the next is h clip(0.9 E^(-1/q), 1 after acceptance and 0.2 after rejection, 10). The step that passes
    the end is evaluated there by the quartic through z, z_new, the state half-way and both slopes.

    As in torchdiffeq the length of the first step is part of the graph, later ones are constants to the gradient.
    """
    slope = field(z)
    t: Number = 0.0
    dt = _first_step(field, z, slope, scheme.order - 1, tol)
    evaluations = 2
    while True:
        evaluations += scheme.evaluations
        if evaluations > max_evaluations:
            raise SolverFailure(f"more than {max_evaluations} evaluations of the field in one solve")
        if not _value(t + dt) > _value(t):
            raise SolverFailure(f"the step {_value(dt):g} is too small to be taken")
        passes = _value(t + dt) >= end
        if passes and clip_last_step:
            dt = end - t
        k = [slope]
        for row in scheme.a[1:]:
            new = _combine(z, row, k, dt)
            k.append(field(new))
        if scheme.b[:-1] != scheme.a[-1]:
            new = _combine(z, scheme.b, k, dt)
        ratio = _error_ratio(z, new, scheme, k, _value(dt), tol)
        if math.isnan(ratio):
            raise SolverFailure("the state left the finite numbers")
        if ratio <= 1 and passes:
            if not clip_last_step:
                middle = _combine(z, scheme.mid, k, dt)
                new = _interpolate(z, new, middle, k[0], k[-1], dt, (end - t) / dt)
            return new, Evaluations(evaluations)
        if ratio <= 1:
            t, z, slope = t + dt, new, k[-1]
        shrink = 1.0 if ratio < 1 else 0.2
        dt = _value(dt) * (10.0 if ratio == 0 else min(10.0, max(0.9 * ratio ** (-1 / scheme.order), shrink)))


@torch.no_grad()
def _error_ratio(z: Tensor, new: Tensor, scheme: Solver, k: Sequence[Tensor], dt: float, tol: float) -> float:
    error = _combine(torch.zeros_like(z), scheme.error, k, dt)
    scale = torch.maximum(z.abs(), new.abs()).mul_(tol).add_(tol)
    return float(error.div_(scale).square_().mean().sqrt())


def _first_step(field: Field, z: Tensor, slope: Tensor, order: int, tol: float) -> Number:
    """Hairer, Norsett and Wanner I, p. 169, with scaled RMS norms; evaluates the field once."""
    scale = tol + tol * z.abs()

    def norm(a: Tensor) -> Tensor:
        return (a / scale).square().mean().sqrt()

    d0, d1 = norm(z), norm(slope)
    h0 = d0.new_tensor(1e-6) if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    d2 = norm(field(torch.addcmul(z, slope, h0)) - slope) / h0
    steepest = max(d1, d2)  # not torch.maximum: a constant field has d2 = 0, where the gradient of the norm is nan
    h1 = (1e-3 * h0).clamp(min=1e-6) if steepest <= 1e-15 else (0.01 / steepest) ** (1 / (order + 1))
    first = min(100 * h0, h1).double()
    return first if first.requires_grad else float(first)


def _value(number: Number) -> float:
    return number.item() if isinstance(number, Tensor) else number


def _interpolate(z: Tensor, new: Tensor, middle: Tensor, start: Tensor, stop: Tensor, dt: Number, x: Number) -> Tensor:
    """The quartic p with p(0) = z, p(1/2) = middle, p(1) = new, p'(0) = dt start, p'(1) = dt stop, at x."""
    x2, x3, x4 = x**2, x**3, x**4
    weights = (
        -11 * x2 + 18 * x3 - 8 * x4,
        -5 * x2 + 14 * x3 - 8 * x4,
        16 * x2 - 32 * x3 + 16 * x4,
        dt * (x - 4 * x2 + 5 * x3 - 2 * x4),
        dt * (x2 - 3 * x3 + 2 * x4),
    )
    return _combine(z, weights, (z, new, middle, start, stop), 1.0)


def trajectory(
    field: Field,
    z: Tensor,
    solver: str,
    *,
    step_size: float | None = None,
    tol: float | None = None,
    points: int = 65,
    clip_last_step: bool = False,
    end: float = 1.0,
) -> Tensor:
    """States along the solve, (n + 1, *z.shape): at every node of a fixed-step solver; at `points` equal times,
    interpolated, of an adaptive one."""
    if SOLVERS[solver].adaptive:
        times = torch.linspace(0.0, end, points, dtype=torch.float64).tolist()
        return _torchdiffeq(field, z, solver, times, None, tol, False, None, clip_last_step, MAX_EVALUATIONS)[0]
    states = [z]
    for dt in step_lengths(_given(step_size, solver, "step_size"), end):
        states.append(fixed_step(field, states[-1], dt, SOLVERS[solver]))
    return torch.stack(states)


def _given(value: float | None, solver: str, name: str) -> float:
    if value is None or not value > 0:
        raise ValueError(f"solver {solver} needs {name} > 0, not {value}")
    return value


class _Counted(nn.Module):
    """f(t, z) for torchdiffeq, with every call counted. It is not asked for parameters: they are passed on."""

    def __init__(self, field: Field, evaluations: Evaluations, limit: float):
        super().__init__()
        self.field = (field,)  # in a tuple: a submodule would be registered and its parameters found twice
        self.evaluations, self.limit = evaluations, limit
        self.phase = "forward"

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        count = getattr(self.evaluations, self.phase) + 1
        if count > self.limit:
            raise SolverFailure(f"more than {self.limit:g} evaluations of the field in one solve")
        setattr(self.evaluations, self.phase, count)
        return self.field[0](z)


def _torchdiffeq(
    field: Field,
    z: Tensor,
    solver: str,
    times: Sequence[float],
    step_size: float | None,
    tol: float | None,
    adjoint: bool,
    parameters: Sequence[Tensor] | None,
    clip_last_step: bool,
    max_evaluations: int,
) -> tuple[Tensor, Evaluations]:
    evaluations = Evaluations()
    adaptive = SOLVERS[solver].adaptive
    counted = _Counted(field, evaluations, max_evaluations if adaptive else math.inf)
    t = torch.tensor(times, dtype=torch.float64, device=z.device)
    options: dict[str, object] = {}
    keywords: dict[str, object] = {}
    if adaptive:
        keywords["rtol"] = keywords["atol"] = _given(tol, solver, "tol")
        if clip_last_step:
            options["step_t"] = torch.tensor([times[0], times[-1]], dtype=torch.float64, device=z.device)
    else:
        h = _given(step_size, solver, "step_size")

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
        states = integrate(counted, z, t, method=solver, options=options, **keywords)
    except AssertionError as error:  # torchdiffeq: step underflow, non-finite state
        raise SolverFailure(str(error).split(":")[0]) from error
    counted.phase = "backward"
    return states, evaluations
