import json

import pytest
import torch
from torch import nn

from reprod.neural_ode.models import (
    ACTIVATIONS,
    DENSE_UP_TO,
    INITS,
    LinearOdeNet,
    OdeNet,
    SimpleOdeNet,
    tied_matrices,
)
from reprod.neural_ode.solvers import SolverSetting, solve


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(model):
    """The model with biases that are not zero."""
    g = generator(3)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return model


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (lambda: SimpleOdeNet(dim=2), 3207),
        (lambda: SimpleOdeNet(dim=3), 3209),
        (lambda: SimpleOdeNet(dim=10), 3223),
        (lambda: SimpleOdeNet(dim=900), 5003),
        (lambda: OdeNet(), 179213),
        (lambda: OdeNet(shape=(1, 28, 28)), 155819),
    ],
)
def test_number_of_parameters(model, count):
    assert sum(p.numel() for p in model().parameters()) == count


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dim", [2, 3, 10])
def test_dense_form_is_the_convolution(dim, activation):
    field = shaken(SimpleOdeNet(dim=dim, channels=5, activation=activation, precision="fp64")).field
    z = torch.randn(7, 1, dim, dtype=torch.float64, generator=generator())
    torch.testing.assert_close(field.prepared(z)(z), field(z))


def test_dense_middle_matrix_in_two_dimensions():
    middle = SimpleOdeNet(dim=2, channels=4).field.middle
    w0, w1, w2 = (middle.weight[:, :, k].T for k in range(3))
    dense = SimpleOdeNet(dim=2, channels=4).field.dense(2)[2]
    torch.testing.assert_close(dense, torch.cat([torch.cat([w1, w0], 1), torch.cat([w2, w1], 1)]))


@pytest.mark.parametrize("init", INITS)
def test_init_is_drawn_from_its_generator_alone(init):
    state = torch.get_rng_state()
    a, b, c = (SimpleOdeNet(dim=3, init=init, init_scale=0.5, generator=generator(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(a.parameters(), b.parameters(), c.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q, _ in pairs)
    assert not any(torch.equal(p, r) for p, _, r in pairs if p.any())
    assert all((p == 0).all() for name, p in a.named_parameters() if name.endswith("bias"))


def test_kaiming_standard_deviations():
    model = OdeNet(channels=64, generator=generator())
    for layer, fan_in in [(model.field.first, 3), (model.field.middle, 9 * 64), (model.classifier, 3072)]:
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.2)


MODELS = [
    lambda **settings: SimpleOdeNet(dim=2, channels=4, **settings),
    lambda **settings: LinearOdeNet(dim=3, channels=4, n_classes=3, **settings),
    lambda **settings: OdeNet(shape=(1, 6, 6), channels=4, **settings),
]
IDS = ["simple", "linear", "images"]


def inputs(model, n=3):
    shape = model.arguments.get("shape") or (1, model.arguments["dim"])
    return torch.rand(n, *shape, generator=generator(5))


@pytest.mark.parametrize("make", MODELS, ids=IDS)
def test_arguments_and_weights_restore_the_model(make):
    model = shaken(make(solver="rk4", step_size=0.3, generator=generator()))
    again = type(model)(**json.loads(json.dumps(model.arguments)))
    again.load_state_dict(model.state_dict())
    x = inputs(model)
    assert torch.equal(model(x), again(x))


@pytest.mark.parametrize("make", MODELS, ids=IDS)
def test_another_solver_on_the_same_weights(make):
    model = shaken(make(solver="euler", step_size=0.5))
    x = inputs(model)
    assert torch.equal(model(x), model(x, step_size=0.5))
    assert not torch.allclose(model(x), model(x, step_size=1 / 16))
    fine = model(x, solver="rk4", step_size=1 / 16)
    torch.testing.assert_close(fine, model(x, solver="dopri5", tol=1e-6), atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(model(x, step_size=1 / 512), fine, atol=2e-2, rtol=2e-2)
    path = model.trajectory(x)
    assert path.shape == (3, *x.shape)
    torch.testing.assert_close(model.classify(path[-1]), model(x))


def test_one_euler_step_is_one_residual_block():
    model = shaken(OdeNet(shape=(3, 8, 8), channels=4, solver="euler", step_size=1.0))
    x = inputs(model)
    block = nn.Sequential(model.field.first, nn.ReLU(), model.field.middle, nn.ReLU(), model.field.last)
    torch.testing.assert_close(model(x), model.classifier((x + block(x)).flatten(1)))


@pytest.mark.parametrize("make", MODELS, ids=IDS)
@pytest.mark.parametrize(("solver", "settings"), [("euler", {"step_size": 0.25}), ("dopri5", {"tol": 1e-3})])
def test_adjoint_model(make, solver, settings):
    model = shaken(make(solver=solver, adjoint=True, **settings))
    z, evaluations = model.flow(inputs(model))
    model.classify(z).square().sum().backward()
    assert evaluations.backward > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        assert model.flow(inputs(model))[1].backward == 0


@pytest.mark.parametrize("make", MODELS, ids=IDS)
def test_precisions(make):
    models = {p: shaken(make(solver="euler", step_size=0.25, precision=p)) for p in ("fp32", "bf16", "fp64")}
    x = inputs(models["fp32"])
    out = {p: m.flow(x)[0] for p, m in models.items()}
    assert out["bf16"].dtype == torch.float32  # the state never loses its precision
    assert out["fp64"].dtype == torch.float64
    torch.testing.assert_close(out["fp32"], out["bf16"], atol=0.05, rtol=0.05)
    assert not torch.equal(out["fp32"], out["bf16"])


def test_adaptive_solve_sees_the_batch_as_one_state():
    model = shaken(SimpleOdeNet(dim=2, solver="dopri5", tol=1e-2))
    x = inputs(model, 64)
    alone = torch.cat([model.flow(row[None])[0] for row in x])
    together, _ = model.flow(x)
    assert not torch.equal(alone, together)
    torch.testing.assert_close(alone, together, atol=0.1, rtol=0.1)


def test_large_dimensions_keep_the_convolution():
    field = SimpleOdeNet(dim=DENSE_UP_TO + 1).field
    assert field.prepared(torch.zeros(1, 1, DENSE_UP_TO + 1)) is field


def test_tied_matrices_carry_gradients_to_the_convolution():
    field = shaken(SimpleOdeNet(dim=3, channels=4, precision="fp64")).field
    z = torch.randn(5, 1, 3, dtype=torch.float64, generator=generator())
    through = [solve(f, z, SolverSetting("euler", 0.5))[0].square().sum() for f in (field, field.prepared(z))]
    torch.testing.assert_close(*[torch.autograd.grad(loss, list(field.parameters())) for loss in through])
    assert len(tied_matrices(3, tuple(field.parameters()))) == 6
