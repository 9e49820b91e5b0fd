"""The experiments in memory, at smoke scale: what they report, and the rules of section 2.3 of the paper's code."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from reprod.config import at_scale
from reprod.errors import Diverged
from reprod.neural_ode import experiment, learners
from reprod.neural_ode.config import CifarOde, SphereOde, XorFan
from reprod.neural_ode.learners import Autograd, Batched
from reprod.neural_ode.models import OdeClassifier, OdeNet, SimpleOdeNet
from reprod.neural_ode.solvers import SolverFailure, SolverSetting
from reprod.run import Run


def trained(**settings):
    config = at_scale(SphereOde, "smoke", device="cpu", **settings)
    run = Run(config)
    experiment.train(config, run)
    return run


def values(run, name):
    return run.arrays[name].values


def test_the_arrays_of_one_run():
    run = trained(step_size=0.25)
    shapes = {name: array.values.shape for name, array in run.arrays.items()}
    assert shapes == {
        "loss": (40,), "train_accuracy": (40,), "step_size": (40,), "nfe/forward": (40,), "nfe/backward": (40,),
        "nfe/with_checks": (40,), "test_accuracy": (2,),
        "trajectories": (5, 20, 2), "trajectory_labels": (20,), "final_states": (2, 1000, 2), "test_labels": (1000,),
        "classifier": (2, 3),
    }  # fmt: skip
    assert {name: table.frame.shape for name, table in run.tables.items()} == {
        "tests": (1 + 3 * 5 + 2, 7), "euler_curve": (5, 2),
    }  # fmt: skip
    assert [set(values(run, f"nfe/{kind}")) for kind in experiment.NFE] == [{4}, {0}, {4}]
    assert (values(run, "step_size") == 0.25).all()
    assert [data["split"] for data in run.datasets] == ["train", "test"]


def test_no_metric_has_two_values_at_a_step():
    for points in trained(step_size=0.25).metrics.values():
        steps = [step for step, _ in points]
        assert len(steps) == len(set(steps))


def test_the_training_solver_at_factor_one_is_the_final_accuracy():
    run = trained(step_size=0.25)
    tests = run.tables["tests"].frame
    own = tests.iloc[0]
    (same,) = tests.query("kind == 'grid' and solver == 'euler' and factor == 1").itertuples()
    assert (own.kind, own.value, own.accuracy) == ("as trained", same.value, same.accuracy)
    curve = run.tables["euler_curve"].frame.set_index("steps").accuracy
    assert curve[4] == pytest.approx(own.accuracy)
    assert own.value == 0.25
    assert run.metrics["test/accuracy"][-1] == (40, own.accuracy)


def test_seeds_together_equal_seeds_alone():
    together = trained(step_size=0.5, seeds=(3, 1), precision="fp64").children()
    for child, seed in zip(together, (3, 1), strict=True):
        alone = trained(step_size=0.5, seeds=(seed,), precision="fp64")
        for name in ("loss", "train_accuracy", "test_accuracy"):
            np.testing.assert_allclose(values(child, name), values(alone, name), atol=1e-6, err_msg=name)
        pd.testing.assert_frame_equal(child.tables["tests"].frame, alone.tables["tests"].frame)
    assert not np.allclose(values(together[0], "loss"), values(together[1], "loss"))


def test_a_run_repeats_itself_to_the_last_bit():
    first, second = (trained(step_size=0.25) for _ in range(2))
    assert all((values(first, name) == values(second, name)).all() for name in first.arrays)
    assert all(first.tables[name].frame.equals(second.tables[name].frame) for name in first.tables)


def test_both_learners_train_alike():
    models = [SimpleOdeNet(step_size=0.25, precision="fp64") for _ in range(2)]
    both = [Batched(models[:1], lr=1e-2), Autograd(models[1], lr=1e-2, batch_size=128)]
    setting = SolverSetting("euler", 0.25)
    g = torch.Generator().manual_seed(0)
    for _ in range(5):
        x, y = 0.3 * torch.randn(1, 32, 1, 2, generator=g), torch.randint(2, (1, 32), generator=g)
        one, other = (learner.gradient(x, y, setting) for learner in both)
        torch.testing.assert_close(one.loss, other.loss)
        assert (one.hits, one.nfe, one.nfe_backward) == (other.hits, other.nfe, other.nfe_backward) == (one.hits, 4, 0)
        finer = SolverSetting("rk4", 0.25)
        assert both[0].hits(x, y, finer) == both[1].hits(x, y, finer)
        for learner in both:
            learner.update()
    tables = [learner.evaluate(x[0], y[0], [setting, finer]) for learner in both]
    np.testing.assert_allclose(tables[0].accuracy, tables[1].accuracy)


def test_loss_and_accuracies_are_those_before_the_update():
    run = trained(step_size=0.25, iterations=1, eval_every=1, learning_rate=0.5, precision="fp64")
    config = run.config
    examples = experiment.load(config, Run(config), torch.device("cpu"))
    untrained = experiment.build(config, examples, 0, torch.device("cpu"))
    x, y = experiment.Batches(config, examples).next()
    assert values(run, "loss")[0] == pytest.approx(torch.nn.functional.cross_entropy(untrained(x[0]), y[0]).item())
    accuracy = (untrained(examples.x_test).argmax(1) == examples.y_test).double().mean()
    assert values(run, "test_accuracy")[0] == pytest.approx(accuracy.item())


def test_batches_visit_every_example_once_an_epoch():
    config = at_scale(SphereOde, "smoke", seeds=(0, 1), batch_size=128)
    examples = experiment.Examples(torch.arange(2000), torch.arange(2000), torch.zeros(0), torch.zeros(0), 2)
    batches = experiment.Batches(config, examples)
    epochs = [torch.cat([batches.next()[0] for _ in range(15)], 1) for _ in range(2)]  # 15 x 128 <= 2000
    for epoch in epochs:
        assert all(len(set(row.tolist())) == 1920 for row in epoch)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0][0], epochs[0][1])
    alone = experiment.Batches(at_scale(SphereOde, "smoke", seeds=(1,), batch_size=128), examples)
    assert torch.equal(alone.next()[0][0], epochs[0][1, :128])


@pytest.mark.parametrize(("threshold", "factor"), [(1.1, 1.1), (-1.0, 0.5)])
def test_step_adaptation(threshold, factor):
    run = trained(adaptation="step", threshold=threshold, learning_rate=1e-3)
    h, checks = values(run, "step_size"), run.tables["checks"].frame
    assert list(checks.columns) == list(experiment.CHECK)
    assert checks.iteration.tolist() == [10, 20, 30, 40]
    assert set(checks.checked_with) == {"midpoint"}
    assert len(set(h[:10])) == 1  # the check of iteration 10 acts on iteration 11
    assert h[[10, 20, 30]] == pytest.approx(np.minimum(1, h[0] * factor ** np.arange(1, 4)))
    assert h[10] == checks.value[0]
    forward, total = values(run, "nfe/forward"), values(run, "nfe/with_checks")
    assert (total - forward)[9::10].tolist() == checks.nfe.tolist()
    assert (np.delete(total - forward, [9, 19, 29, 39]) == 0).all()
    assert list(run.tables["probes"].frame.columns) == ["iteration", "as trained", "midpoint", "rk4"]
    assert len(run.tables["probes"].frame) == 4


@pytest.mark.parametrize("solver", ["fehlberg2", "dopri5"])
def test_tolerance_adaptation(solver):
    run = trained(adaptation="tolerance", solver=solver, step_size=None, initial_tol=1e-3, iterations=20, threshold=-1)
    assert set(run.tables["checks"].frame.checked_with) == {"dopri5"}
    tol = values(run, "tol")
    assert tol[[0, 10]] == pytest.approx([1e-3, 5e-4])
    assert run.tables["probes"].frame.columns.tolist() == ["iteration", "as trained", "dopri5"]


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset": "three_minima"},
        {"dataset": "concentric_sphere3", "solver": "midpoint"},
        {"dataset": "concentric_sphere900", "iterations": 2, "batch_size": 8, "test_factors": (1.0,)},
        {"network": "linear_odenet"},
        {"adjoint": True},
        {"solver": "dopri5", "tol": 1e-2, "iterations": 5, "eval_every": 5},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_variants_train(settings):
    run = trained(**{"step_size": 0.5, "iterations": 10, "eval_every": 10, **settings})
    assert np.isfinite(values(run, "loss")).all()
    assert (values(run, "nfe/backward") > 0).all() == settings.get("adjoint", False)
    assert len(run.models) == 1


def test_a_seed_that_diverges_fails_alone():
    with pytest.raises(Diverged):
        trained(step_size=0.5, learning_rate=1e30, init="normal", init_scale=1e8)


def test_a_field_that_cannot_be_compiled_is_used_as_it_is(monkeypatch):
    model = OdeNet(shape=(1, 4, 4), channels=2)
    monkeypatch.setattr(
        type(model.field), "compile", lambda self: setattr(self, "_compiled_call_impl", lambda z: 1 / 0)
    )
    with pytest.warns(UserWarning, match="not compiled"):
        learners.compile_field(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.field(torch.zeros(1, 1, 4, 4)).shape == (1, 1, 4, 4)


def test_fan_reports_margins_of_the_right_sign():
    run = Run(XorFan(log10_steps=(-2.5, -3.5)))
    experiment.fan(run.config, run)
    margins = run.tables["margins"].frame
    assert margins.solver.tolist() == ["euler", "euler", "rk4"]
    coarse, fine, limit = margins.margin
    assert coarse > 0 > max(fine, limit)
    assert values(run, "fan_2.5/states").shape[1:] == (4, 2)


def test_images_of_one_channel_or_three_have_their_network():
    for channels, size in ((1, 28), (3, 32)):
        x = torch.zeros(4, channels, size, size, dtype=torch.uint8)
        examples = experiment.Examples(x, torch.zeros(4), x, torch.zeros(4), 10)
        model = experiment.build(at_scale(CifarOde, "smoke"), examples, 0, torch.device("cpu"))
        assert model.arguments["shape"] == (channels, size, size)


# -- what a user may do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iterations", [40, 50])
def test_the_test_accuracy_of_an_iteration_is_one_value(iterations):
    run = trained(step_size=0.5, iterations=iterations)  # evaluated every 20
    steps = [step for step, _ in run.metrics["test/accuracy"]]
    assert steps == [20, *([40] if iterations == 50 else []), iterations]
    assert run.metrics["test/accuracy"][-1][1] == run.tables["tests"].frame.accuracy[0]  # after the last update
    assert [step for step, _ in run.metrics["train/loss"]] == steps


def test_the_last_logged_point_is_the_mean_since_the_one_before():
    run = trained(step_size=0.5, iterations=50)
    for (_, logged), (first, last) in zip(run.metrics["train/loss"], ((0, 20), (20, 40), (40, 50)), strict=True):
        assert logged == pytest.approx(values(run, "loss")[first:last].mean())


def test_fewer_iterations_than_between_two_evaluations_are_logged_all_the_same():
    run = trained(step_size=0.5, iterations=3, eval_every=50)
    assert run.metrics["train/loss"] == [(3, pytest.approx(values(run, "loss").mean()))]
    assert values(run, "test_accuracy").shape == (0,)


def test_the_device_that_ran_is_said():
    run = trained(step_size=0.5, iterations=2, seeds=(0, 1))
    assert [child.notes["device"] for child in (run, *run.children())] == ["cpu"] * 3


def test_weights_near_zero_do_not_ask_for_ten_thousand_steps():
    run = trained(adaptation="step", init="orthogonal", max_steps=50, iterations=10)
    assert values(run, "step_size")[0] == 1 / 50
    assert values(run, "nfe/forward")[0] == 50


def test_a_training_whose_solver_gives_up_says_so_and_not_more(monkeypatch):
    def gives_up(model, x, setting=None):
        raise SolverFailure("more than 20000 evaluations of the field in one solve")

    monkeypatch.setattr(OdeClassifier, "flow", gives_up)
    with pytest.raises(Diverged) as error:
        trained(solver="dopri5", tol=1e-2, iterations=2)
    assert str(error.value) == "dopri5 with tol=0.01 gave up: more than 20000 evaluations of the field in one solve"


def test_solves_that_gave_up_are_told_from_wrong_answers(monkeypatch):
    flow = OdeClassifier.flow

    def gives_up(model, x, setting=None):
        if setting.value < 5e-3 and len(x) < 128:  # the last batch of the test set
            raise SolverFailure("more than 20000 evaluations")
        if setting.value < 1e-2 and len(x) > 128:  # all test points at once, for the geometry
            raise SolverFailure("more than 20000 evaluations")
        return flow(model, x, setting)

    monkeypatch.setattr(OdeClassifier, "flow", gives_up)
    run = trained(solver="dopri5", tol=1e-2, iterations=2, test_factors=(1.0, 0.1))
    tests = run.tables["tests"].frame
    assert tests.gave_up.tolist() == [0, 0, 1 / 8]
    assert tests.nfe.iloc[-1] > 2500
    assert run.notes["gave_up"].endswith("dopri5 0.001 in 12 % of the batches")
    assert "more than 20000" in run.notes["geometry"]


@pytest.mark.parametrize("settings", [{"gamma": 1e308}, {"alpha": 1e300}])
def test_a_fan_that_blows_up_diverges(settings):
    run = Run(XorFan(**settings, log10_steps=(-2.5,)))
    with pytest.raises(Diverged, match="left the finite numbers"):
        experiment.fan(run.config, run)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 1}, {"batch_size": 2000}, {"step_size": 1.0}, {"step_size": 7.5}, {"curve_steps": 1},
        {"n_trajectories": 1}, {"channels": 1}, {"adaptation": "step", "adapt_every": 1, "max_steps": 1},
        {"adaptation": "step", "threshold": 0.0, "probe": 5000}, {"data_scale": 1e-30, "adaptation": "step"},
        {"solver": "bosh3", "tol": 1.0}, {"network": "linear_odenet", "dataset": "three_minima", "solver": "midpoint"},
    ],
    ids=str,
)  # fmt: skip
def test_odd_settings_end_with_numbers(settings):
    run = trained(**{"step_size": 0.5, "iterations": 10, **settings})
    assert np.isfinite(values(run, "loss")).all()
    assert all(np.isfinite(value) for name, points in run.metrics.items() for _, value in points), run.metrics


@pytest.mark.parametrize("adaptation", ["none", "step"])
def test_weights_that_leave_the_finite_numbers_diverge(adaptation):
    with pytest.raises(Diverged, match="finite"):
        trained(step_size=0.5, iterations=10, adaptation=adaptation, init="normal", init_scale=1e30)
