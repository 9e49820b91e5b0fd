import numpy as np
import pytest
import torch

from reprod.data import spheres
from reprod.neural_ode import batched
from reprod.neural_ode.crossings import count_crossings
from reprod.neural_ode.evaluation import accuracy, evaluate, evaluate_batched, hits, solver_grid
from reprod.neural_ode.models import OdeNet, SimpleOdeNet
from reprod.neural_ode.solvers import SolverSetting, trajectory
from reprod.neural_ode.xor import LABELS, POINTS, fan, separability_margin

# -- figure 3 -----------------------------------------------------------------------------------------------------


def test_fan_separates_with_the_coarse_step_only():
    margins = {}
    for digits in (2.5, 3.0, 3.5):
        times, path = fan(SolverSetting("euler", 10**-digits))
        assert times[-1] == pytest.approx(3.75, abs=1e-9)
        assert path.shape == (len(times), 4, 2)
        assert (path[:, 0] == 0).all()  # the origin rests
        assert (path[0] == POINTS).all()
        margins[digits] = separability_margin(path[-1], LABELS)
    limit = separability_margin(fan(SolverSetting("rk4", 4e-3))[1][-1], LABELS)
    assert margins[2.5] > 0
    assert max(margins[3.5], limit) < 0
    assert abs(margins[3.5] - limit) < abs(margins[3.0] - limit) < abs(margins[2.5] - limit)


def test_fan_converges_to_its_limit():
    ends = [fan(SolverSetting("rk4", h))[1][-1] for h in (4e-3, 2e-3)]
    np.testing.assert_allclose(*ends, atol=2e-5)


def test_fan_steps_are_those_of_the_solver():
    linear = fan(SolverSetting("euler", 0.1), gamma=0.0, delta=1.0, end=0.95)[1]
    matrix = torch.tensor([[0.2, 1.0], [0.0, 0.2]], dtype=torch.float64)
    expected = trajectory(lambda z: z @ matrix.T, torch.tensor(POINTS), SolverSetting("euler", 0.1), end=0.95)
    np.testing.assert_allclose(linear, expected, atol=1e-14)


@pytest.mark.parametrize(
    ("class0", "class1", "margin"),
    [
        ([(0, 0), (0, 1)], [(2, 0), (2, 1)], 2.0),
        ([(0, 0), (0, 1)], [(3, 5), (7, 5)], 5.0),  # nearest: (0, 1) and (3, 5)
        ([(0, 0), (2, 2)], [(0, 2), (2, 0)], -(2**0.5)),
        ([(0, 0), (4, 0)], [(2, 0), (2, 3)], 0.0),
    ],
)
def test_separability_margin(class0, class1, margin):
    points, labels = np.array(class0 + class1, float), np.array([0, 0, 1, 1])
    assert separability_margin(points, labels) == pytest.approx(margin, abs=1e-12)
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    assert separability_margin(points @ turn, 1 - labels) == pytest.approx(margin, abs=1e-12)


# -- figure 1 -----------------------------------------------------------------------------------------------------


def brute_force(paths, labels):
    def side(p, q, r):
        return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    crossings, pairs = 0, set()
    steps, points = len(paths) - 1, len(labels)
    segments = [(n, p) for n in range(steps) for p in range(points)]
    for n, p in segments:
        for m, q in segments:
            if p < q and labels[p] != labels[q]:
                a, b, c, d = paths[n, p], paths[n + 1, p], paths[m, q], paths[m + 1, q]
                if side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0:
                    crossings += 1
                    pairs.add((p, q))
    return crossings, len(pairs)


def test_count_crossings_against_brute_force(monkeypatch):
    rng = np.random.default_rng(0)
    paths, labels = rng.normal(size=(5, 12, 2)).cumsum(0), rng.integers(2, size=12)
    expected = brute_force(paths, labels)
    assert expected[0] > 5
    for chunk in (1 << 20, 7):
        monkeypatch.setattr("reprod.neural_ode.crossings.CHUNK", chunk)
        found = count_crossings(paths, labels)
        assert (found.crossings, found.crossing_pairs) == expected
        assert found.pairs == (labels == 0).sum() * (labels == 1).sum()


def test_accurate_trajectories_do_not_cross_and_coarse_ones_do():
    data = spheres.load("concentric_sphere2")
    x, y = torch.tensor(data.x_test[::20]), data.y_test[::20]
    model = SimpleOdeNet(dim=2, precision="fp64", generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in model.parameters():
            p *= 1.3  # a field strong enough for two Euler steps to leave it
        paths = {
            n: model.trajectory(x, SolverSetting("rk4" if n > 2 else "euler", 1 / n))[:, :, 0].numpy() for n in (256, 2)
        }
    fine, coarse = (count_crossings(paths[n], y) for n in (256, 2))
    assert fine.crossings == 0
    assert coarse.crossing_pairs > 50
    assert fine.pairs == coarse.pairs == 25 * 25


# -- figure 4 -----------------------------------------------------------------------------------------------------


def test_constant_prediction_on_the_sphere_test_set_is_a_half():
    y = torch.tensor(spheres.load("concentric_sphere2").y_test)
    assert accuracy(torch.tensor([[1.0, 0.0]]).expand(1000, 2), y) == 0.5


def test_non_finite_logits_are_errors():
    logits = torch.tensor([[2.0, 1.0], [float("inf"), 0.0], [float("nan"), 0.0], [0.0, 1.0]])
    assert hits(logits, torch.zeros(4, dtype=torch.long)).item() == 1


@pytest.mark.parametrize(("factor_on", "values"), [("step", [0.1, 0.3]), ("nsteps", [0.4, 0.4 / 3])])
def test_solver_grid_of_test_solvers(factor_on, values):
    grid = solver_grid(0.2, ["euler", "rk4"], [0.5, 1.5], factor_on)
    assert [(setting.name, factor) for factor, setting in grid] == [
        ("euler", 0.5),
        ("euler", 1.5),
        ("rk4", 0.5),
        ("rk4", 1.5),
    ]
    assert [setting.value for _, setting in grid] == pytest.approx(values * 2)
    ((factor, setting),) = solver_grid(1e-3, ["dopri5"], [0.1])
    assert (factor, setting.name, setting.kind) == (0.1, "dopri5", "tol")
    assert setting.value == pytest.approx(1e-4)


def test_batched_evaluation_equals_the_models_own():
    data = spheres.load("concentric_sphere2")
    x, y = torch.tensor(data.x_test), torch.tensor(data.y_test)
    models = [SimpleOdeNet(dim=2, precision="fp64", generator=torch.Generator().manual_seed(s)) for s in range(2)]
    kernel = batched.build(models[0], 2)
    grid = solver_grid(0.25, ["euler", "midpoint", "rk4"], [0.5, 0.75, 1, 1.5, 4, 8])
    tests = [setting for _, setting in grid]
    table = evaluate_batched(kernel, batched.init(kernel, models)["theta"], x[:, 0], y, tests)
    assert table.accuracy.shape == table.evaluations.shape == (2, 18)
    for s, model in enumerate(models):
        alone = evaluate(model, x, y, tests, batch_size=128)  # the last batch has 104 points
        np.testing.assert_allclose(alone.accuracy, table.accuracy[s], atol=1e-12)
        assert (alone.evaluations == table.evaluations[s]).all()
    factor_one = tests.index(SolverSetting("euler", 0.25))
    assert table.accuracy[0, factor_one] == accuracy(models[0](x, "euler", 0.25), y)


def test_evaluation_of_adaptive_solvers_and_pixels():
    model = OdeNet(shape=(1, 6, 6), channels=4, generator=torch.Generator().manual_seed(0))
    pixels = torch.randint(256, (10, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    y = torch.arange(10)
    tests = [setting for _, setting in solver_grid(1e-2, ["fehlberg2", "dopri5"], [0.1, 1])]
    table = evaluate(model, pixels, y, tests, batch_size=4)
    for test, found in zip(tests, table.accuracy, strict=True):
        logits = [model(batch.float() / 255, test.name, tol=test.value) for batch in pixels.split(4)]
        assert found == accuracy(torch.cat(logits), y)


def test_a_solve_that_fails_counts_as_wrong():
    model = OdeNet(shape=(1, 6, 6), channels=4)
    torch.nn.init.constant_(model.field.last.bias, float("nan"))
    table = evaluate(
        model, torch.zeros(4, 1, 6, 6), torch.zeros(4, dtype=torch.long), [SolverSetting("dopri5", 1e-3)], 2
    )
    assert table.accuracy.tolist() == [0.0]
