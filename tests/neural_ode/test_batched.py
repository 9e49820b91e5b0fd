"""The hand-written training against autograd through the solver, torch.optim.Adam and torchdiffeq."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector
from torchdiffeq import odeint

from reprod.neural_ode import batched
from reprod.neural_ode.models import LinearOdeNet, OdeNet, SimpleOdeNet
from reprod.neural_ode.solvers import SolverSetting

SEEDS, BATCH = 3, 16


def setting(cls, **arguments):
    models = [cls(**arguments, generator=torch.Generator().manual_seed(seed)) for seed in range(SEEDS)]
    return models, batched.build(models[0], SEEDS, lr=1e-2)


def batches(kernel, n):
    g = torch.Generator().manual_seed(9)
    for _ in range(n):
        x = torch.randn(SEEDS, BATCH, kernel.dim, generator=g).to(kernel.dtype)
        yield x, torch.randint(kernel.n_classes, (SEEDS, BATCH), generator=g)


CASES = [
    (SimpleOdeNet, {"dim": 2, "solver": "euler", "step_size": 1 / 8}),
    (SimpleOdeNet, {"dim": 2, "solver": "rk4", "step_size": 0.3}),
    (SimpleOdeNet, {"dim": 2, "solver": "midpoint", "step_size": 0.4, "activation": "leaky_relu", "n_classes": 3}),
    (SimpleOdeNet, {"dim": 3, "solver": "midpoint", "step_size": 1.0, "activation": "sigmoid"}),
    (SimpleOdeNet, {"dim": 10, "solver": "rk4", "step_size": 0.5, "channels": 6}),
    (LinearOdeNet, {"dim": 10, "solver": "euler", "step_size": 0.3, "n_classes": 4, "activation": "leaky_relu"}),
]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-10), ("fp32", 1e-5)])
@pytest.mark.parametrize(("cls", "arguments"), CASES)
def test_training_equals_autograd(cls, arguments, precision, tolerance):
    models, kernel = setting(cls, **arguments, precision=precision)
    state = batched.init(kernel, models)
    optimisers = [torch.optim.Adam(model.parameters(), lr=1e-2, foreach=False) for model in models]
    for x, y in batches(kernel, 25):
        loss, correct = batched.update(kernel, state, x, y, models[0].setting())
        for s, (model, optimiser) in enumerate(zip(models, optimisers, strict=True)):
            logits = model(x[s][:, None])
            expected = cross_entropy(logits, y[s])
            assert loss[s].item() == pytest.approx(expected.item(), rel=10 * tolerance, abs=10 * tolerance)
            assert correct[s] == (logits.argmax(1) == y[s]).sum()
            optimiser.zero_grad()
            expected.backward()
            optimiser.step()
    expected = torch.stack([parameters_to_vector(model.parameters()) for model in models]).detach()
    torch.testing.assert_close(state["theta"], expected, atol=tolerance, rtol=tolerance)


def test_gradient_equals_torchdiffeq_on_the_convolution():
    models, kernel = setting(SimpleOdeNet, dim=2, solver="rk4", step_size=0.25, precision="fp64")
    x, y = next(batches(kernel, 1))
    gradient = batched.gradients(kernel, batched.init(kernel, models)["theta"], x, y, SolverSetting("rk4", 0.25))
    for s, model in enumerate(models):
        times = torch.tensor([0.0, 1.0], dtype=torch.float64)
        z = odeint(lambda t, z: model.field(z), x[s][:, None], times, method="rk4", options={"step_size": 0.25})[-1]  # noqa: B023
        loss = cross_entropy(model.classifier(z.flatten(1)), y[s])
        expected = torch.autograd.grad(loss, list(model.parameters()))
        torch.testing.assert_close(gradient.theta[s], torch.cat([g.flatten() for g in expected]))


def test_batched_seeds_equal_serial_seeds():
    models, kernel = setting(SimpleOdeNet, dim=2, precision="fp64")
    together = batched.init(kernel, models)
    alone_kernel = batched.build(models[0], 1, lr=1e-2)
    alone = [batched.init(alone_kernel, [model]) for model in models]
    for x, y in batches(kernel, 10):
        batched.update(kernel, together, x, y, SolverSetting("euler", 0.25))
        for s, state in enumerate(alone):
            batched.update(alone_kernel, state, x[s : s + 1], y[s : s + 1], SolverSetting("euler", 0.25))
    torch.testing.assert_close(together["theta"], torch.cat([state["theta"] for state in alone]), atol=1e-12, rtol=0)


def test_bitwise_repeatable_also_when_the_buffers_grow_and_the_state_is_restored():
    models, kernel = setting(SimpleOdeNet, dim=2)
    steps = [0.5, 0.1, 0.5, 0.05, 0.3]

    def run(restore):
        used, state = kernel, batched.init(kernel, models)
        for i, ((x, y), h) in enumerate(zip(batches(kernel, 5), steps, strict=True)):
            if restore and i == 2:
                used = batched.build(models[0], SEEDS, lr=1e-2)
                state = {name: v.clone() if isinstance(v, torch.Tensor) else v for name, v in state.items()}
            batched.update(used, state, x, y, SolverSetting("euler", h))
        return state["theta"]

    assert torch.equal(run(restore=False), run(restore=True))


@pytest.mark.parametrize(("cls", "arguments"), CASES)
def test_evaluation_and_export(cls, arguments):
    models, kernel = setting(cls, **arguments, precision="fp64")
    theta = batched.init(kernel, models)["theta"]
    x = torch.randn(20, kernel.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits, evaluations = batched.logits(kernel, theta, x, SolverSetting("rk4", 0.3))
    assert evaluations == 16
    for s, model in enumerate(models):
        torch.testing.assert_close(logits[s], model(x[:, None], solver="rk4", step_size=0.3))
        exported = cls(**model.arguments)
        exported.load_state_dict(batched.state_dict(kernel, theta[s]))
        assert torch.equal(parameters_to_vector(exported.parameters()), theta[s])
    assert torch.equal(batched.from_state_dicts(kernel, [model.state_dict() for model in models]), theta)


def test_what_it_does_not_support():
    assert batched.supports(SimpleOdeNet(dim=3))
    unsupported = [
        SimpleOdeNet(dim=900),
        SimpleOdeNet(solver="dopri5", tol=1e-3),
        SimpleOdeNet(adjoint=True),
        SimpleOdeNet(precision="bf16"),
        OdeNet(),
    ]
    assert not any(batched.supports(model) for model in unsupported)
    models, kernel = setting(SimpleOdeNet, dim=2)
    with pytest.raises(ValueError, match="share"):
        batched.logits(kernel, batched.init(kernel, models)["theta"], torch.zeros(4, 2), SolverSetting("dopri5", 0.1))
