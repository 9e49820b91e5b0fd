"""Closed forms, orders, evaluation counts, gradients; torchdiffeq as the reference of every solver."""

import math

import pytest
import torch
from torch import nn
from torchdiffeq import odeint

from reprod.neural_ode.config import ADAPTIVE, FIXED
from reprod.neural_ode.solvers import SOLVERS, SolverFailure, SolverSetting, n_steps, solve, step_lengths, trajectory

STABILITY = {  # R(x) of one step on z' = lambda z, x = lambda h
    "euler": lambda x: 1 + x,
    "midpoint": lambda x: 1 + x + x**2 / 2,
    "rk4": lambda x: 1 + x + x**2 / 2 + x**3 / 6 + x**4 / 24,
}
DTYPES = {torch.float32: 1e-6, torch.float64: 1e-13}


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


ROTATION = double(0.0, 2.0, -2.0, 0.0).view(2, 2)


def curved(dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    a, z = torch.randn(3, 3, generator=g, dtype=dtype), torch.randn(5, 3, generator=g, dtype=dtype)
    return (lambda z: torch.tanh(z @ a)), z


@pytest.mark.parametrize("n", [1, 2, 7, 64])
@pytest.mark.parametrize("solver", FIXED)
def test_linear_field_gives_the_stability_polynomial(solver, n):
    z, _ = solve(lambda z: -2 * z, double(1.0), SolverSetting(solver, 1 / n))
    assert z.item() == pytest.approx(STABILITY[solver](-2 / n) ** n, rel=1e-12)


@pytest.mark.parametrize("h", [0.3, 1 / 3, 1 / 49, 0.75, 1.0, 2.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", FIXED)
def test_fixed_steps_are_those_of_torchdiffeq(solver, dtype, h):
    field, z0 = curved(dtype)
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    nodes = torch.tensor([i * h for i in range(n_steps(h))] + [1.0], dtype=torch.float64)
    options = {"grid_constructor": lambda f, y, t: nodes}  # its own count is one too many for h = 1/49
    expected = odeint(lambda t, z: field(z), z0, times, method=solver, options=options)[-1]
    z, _ = solve(field, z0, SolverSetting(solver, h))
    torch.testing.assert_close(z, expected, atol=DTYPES[dtype], rtol=DTYPES[dtype])
    assert z.dtype == dtype


@pytest.mark.parametrize(
    ("field", "exact"),
    [
        (lambda z: -(z**2), lambda z: z / (1 + z)),
        (lambda z: z @ ROTATION, lambda z: z @ torch.linalg.matrix_exp(ROTATION)),
    ],
    ids=["square", "rotation"],
)
@pytest.mark.parametrize("solver", FIXED)
def test_order(solver, field, exact):
    z0 = double(1.0, 0.5)
    errors = [(solve(field, z0, SolverSetting(solver, 1 / n))[0] - exact(z0)).norm() for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(SOLVERS[solver].order, abs=0.15)


def test_euler_on_a_rotation_multiplies_the_squared_norm():
    omega, h = 3.0, 0.1
    path = trajectory(
        lambda z: z @ double(0.0, omega, -omega, 0.0).view(2, 2), double(1.0, 0.5), SolverSetting("euler", h)
    )
    squared = path.square().sum(-1)
    torch.testing.assert_close(squared[1:] / squared[:-1], torch.full((10,), 1 + (omega * h) ** 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("h", "n"), [(1.0, 1), (1.5, 1), (100.0, 1), (0.3, 4), (1 / 3, 3), (1 / 7, 7), (1 / 49, 49), (0.5001, 2)]
)
def test_number_of_steps(h, n):
    assert n_steps(h) == n
    assert sum(step_lengths(h)) == pytest.approx(1.0, abs=1e-12)
    for solver in FIXED:
        assert solve(torch.sin, double(1.0), SolverSetting(solver, h))[1].forward == n * SOLVERS[solver].evaluations


@pytest.mark.parametrize("solver", ADAPTIVE)
@pytest.mark.parametrize("tol", [1e-2, 1e-5])
def test_adaptive_solvers_converge_and_count(solver, tol):
    calls = 0

    def field(z):
        nonlocal calls
        calls += 1
        return -z

    z, evaluations = solve(field, double(1.0, 2.0), SolverSetting(solver, tol), clip_last_step=True)
    attempts, remainder = divmod(evaluations.forward - 2, SOLVERS[solver].evaluations)
    assert (calls, remainder) == (evaluations.forward, 0)
    assert attempts >= 1
    torch.testing.assert_close(z, double(1.0, 2.0) * math.exp(-1), atol=120 * tol, rtol=0)


@pytest.mark.parametrize(
    ("solver", "tol", "evaluations", "error"),
    [("dopri5", 1e-3, 14, 5e-5), ("fehlberg2", 1e-3, 10, 0.10), ("fehlberg2", 1e-5, 28, 9.0e-4)],
)
def test_reference_solves_with_the_last_step_interpolated(solver, tol, evaluations, error):
    z, counted = solve(lambda z: -z, double(1.0), SolverSetting(solver, tol))
    assert counted.forward == evaluations
    assert abs(z.item() - math.exp(-1)) == pytest.approx(error, rel=0.05)


def test_clipping_the_last_step_replaces_the_interpolation():
    errors = [
        abs(
            solve(lambda z: -z, double(1.0), SolverSetting("fehlberg2", 1e-3), clip_last_step=clip)[0].item()
            - math.exp(-1)
        )
        for clip in (False, True)
    ]
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("n", [1, 5])
def test_euler_is_a_residual_network_with_tied_weights(n):
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = torch.randn(4, 3, dtype=torch.float64)

    def resnet(z):
        for _ in range(n):
            z = z + block(z) / n
        return z

    outputs = solve(block, x, SolverSetting("euler", 1 / n))[0], resnet(x)
    gradients = [torch.autograd.grad(z.square().sum(), list(block.parameters())) for z in outputs]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("solver", FIXED)
def test_gradient_through_the_solver(solver):
    g = torch.Generator().manual_seed(1)
    a = torch.randn(2, 2, dtype=torch.float64, generator=g, requires_grad=True)
    z = torch.randn(3, 2, dtype=torch.float64, generator=g, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, z: solve(lambda y: torch.tanh(y @ a), z, SolverSetting(solver, 0.3))[0], (a, z)
    )


@pytest.mark.parametrize("solver", FIXED)
def test_adjoint_differs_from_the_discrete_gradient_by_the_order(solver):
    layer = nn.Linear(2, 2).double()
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(2))
    field = nn.Sequential(layer, nn.Tanh())
    z0 = double(0.4, -1.0)

    def difference(n):
        gradients = []
        for adjoint in (False, True):
            z, evaluations = solve(field, z0, SolverSetting(solver, 1 / n), adjoint=adjoint)
            gradients.append(torch.autograd.grad(z.square().sum(), layer.weight)[0])
        assert evaluations.forward == evaluations.backward == n * SOLVERS[solver].evaluations
        return (gradients[0] - gradients[1]).norm().item()

    coarse, fine = difference(8), difference(16)
    assert coarse > 1e-7
    assert math.log2(coarse / fine) > SOLVERS[solver].order - 0.3


@pytest.mark.parametrize("solver", ["fehlberg2", "dopri5"])
def test_adaptive_adjoint_agrees_at_fine_tolerance(solver):
    layer = nn.Linear(2, 2).double()
    gradients = []
    for adjoint in (False, True):
        z, evaluations = solve(layer, double(0.4, -1.0), SolverSetting(solver, 1e-7), adjoint=adjoint)
        gradients.append(torch.autograd.grad(z.square().sum(), layer.weight)[0])
        assert (evaluations.backward > 0) == adjoint
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (lambda z: -1e5 * z, "more than 200"),
        (lambda z: z / 0, "non-finite|underflow|than"),
        (lambda z: z * math.nan, "non-finite|underflow|than"),
    ],
)
def test_adaptive_failure_has_its_own_exception(field, reason):
    with pytest.raises(SolverFailure, match=reason):
        solve(field, double(1.0), SolverSetting("dopri5", 1e-6), max_evaluations=200)


@pytest.mark.parametrize(("tol", "rounded"), [(1e-9, True), (1e-6, False)])
def test_a_tolerance_below_the_rounding_is_named_as_what_it_is(tol, rounded):
    with pytest.raises(SolverFailure) as error:
        solve(lambda z: -1e5 * z, double(1.0).float(), SolverSetting("dopri5", tol), max_evaluations=50)
    assert ("float32 rounds by 1e-07, more than the tolerance" in str(error.value)) == rounded


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan])
@pytest.mark.parametrize(("solver", "kind"), [("rk4", "step_size"), ("dopri5", "tol")])
def test_a_setting_that_means_nothing_is_refused(solver, kind, value):
    with pytest.raises(ValueError, match=f"{solver} needs {kind} > 0"):
        SolverSetting(solver, value)
    with pytest.raises(ValueError, match="no solver 'rk5'"):
        SolverSetting("rk5", 0.1).scheme  # noqa: B018


def test_the_tables_of_names_agree():
    assert [name for name, solver in SOLVERS.items() if not solver.adaptive] == list(FIXED)
    assert {name for name, solver in SOLVERS.items() if solver.adaptive} == set(ADAPTIVE)


def test_trajectory_starts_at_z_and_ends_where_solve_does():
    field, z0 = curved()
    for solver, value, length in [("rk4", 0.3, 5), ("dopri5", 1e-5, 65)]:
        path = trajectory(field, z0, SolverSetting(solver, value))
        assert path.shape == (length, 5, 3)
        torch.testing.assert_close(path[0], z0)
        torch.testing.assert_close(path[-1], solve(field, z0, SolverSetting(solver, value))[0])
