"""The compiled trials against torch and autograd, batched against serial, killed against uninterrupted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from reprod.config import at_scale
from reprod.le_sde import data, experiment, networks, trials
from reprod.le_sde.config import CifarDynamics, GeomnistDynamics
from reprod.run import Run
from reprod.training import stream


def made(channels: int, classes: int, n: int = 24) -> trials.Examples:
    rng = stream(0, "examples")
    x, labels = rng.uniform(-1, 1, (2 * n, channels, 32, 32)), rng.integers(classes, size=2 * n)
    return trials.Examples(x[:n], labels[:n], x[n:], labels[n:])


def ensemble(examples: trials.Examples, classes: int, **settings) -> trials.Ensemble:
    settings = {"trials": 3, "iterations": 40, "lr": 0.02, "seed": 1, "dtype": "float64"} | settings
    return trials.build(examples, classes=classes, **settings)


def plain_loop(examples: trials.Examples, built: trials.Ensemble, r: int, start: np.ndarray, lr: float):
    """One trial by autograd: its logits before each update, and its network at the end."""
    classes = built.logits.shape[2]
    head = torch.from_numpy(built.heads[r]) if built.heads.size else None
    net = networks.LeNet(classes, examples.x_train.shape[1], head).double().load_flat(start)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    x, y, logits = torch.from_numpy(examples.x_train), torch.from_numpy(examples.y_train), []
    for i in built.samples[r]:
        out = net(x[i : i + 1])
        logits.append(out[0].detach().numpy())
        optimizer.zero_grad()
        functional.cross_entropy(out, y[i : i + 1]).backward()
        optimizer.step()
    return np.array(logits), net


@pytest.mark.parametrize(("channels", "classes", "head"), [(1, 3, False), (3, 5, False), (1, 3, True)])
def test_hand_written_steps_are_those_of_autograd(channels, classes, head):
    examples = made(channels, classes)
    built = ensemble(examples, classes, head=head)
    starts = built.weights.copy()
    built.train(0, 25)
    built.train(25, 40)
    loss, accuracy = built.evaluate()
    for r, start in enumerate(starts):
        logits, net = plain_loop(examples, built, r, start, 0.02)
        np.testing.assert_allclose(built.logits[r], logits, rtol=1e-9, atol=1e-12)
        flat = torch.nn.utils.parameters_to_vector(net.parameters()).detach().numpy()
        np.testing.assert_allclose(built.weights[r], flat, rtol=1e-9, atol=1e-12)
        with torch.no_grad():
            out, y = net(torch.from_numpy(examples.x_val)), torch.from_numpy(examples.y_val)
        assert loss[r] == pytest.approx(functional.cross_entropy(out, y).item(), rel=1e-9)
        assert accuracy[r] == pytest.approx((out.argmax(1) == y).double().mean().item())


def test_single_precision_follows_double():
    examples = made(1, 3)
    single, double = ensemble(examples, 3, dtype="float32"), ensemble(examples, 3)
    for each in (single, double):
        each.train(0, 40)
    np.testing.assert_allclose(single.logits, double.logits, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trial_does_not_depend_on_the_batch_nor_on_threads(dtype):
    examples = made(1, 3)
    together = ensemble(examples, 3, trials=4, threads=2, dtype=dtype)
    together.train(0, 40)
    for r in (0, 3):
        alone = ensemble(examples, 3, which=range(r, r + 1), threads=1, dtype=dtype)
        alone.train(0, 40)
        np.testing.assert_array_equal(alone.logits[0], together.logits[r])
        np.testing.assert_array_equal(alone.evaluate()[0][0], together.evaluate()[0][r])


@pytest.mark.parametrize(("channels", "count"), [(1, 61_111), (3, 61_411)])
def test_parameters_and_initialisation(channels, count):
    flat = networks.initial(3, channels, 0, 0)
    net = networks.LeNet(3, channels)
    assert flat.size == networks.size(3, channels) == count
    assert [tuple(p.shape) for p in net.parameters()] == list(networks.shapes(3, channels).values())
    net.load_flat(flat)
    for layer in (net.conv1, net.conv2, net.fc1, net.fc2, net.fc3):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        assert layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
        assert layer.weight.abs().max() > 0.9 * bound


def test_networks_of_a_run_are_the_trained_ones():
    examples = made(3, 4)
    built = ensemble(examples, 4, dtype="float32", head=True)
    built.train(0, 10)
    module = networks.LeNets(3, 4, 3)
    module.weights.copy_(torch.from_numpy(built.weights))
    module.heads.copy_(torch.from_numpy(built.heads))
    x = torch.from_numpy(examples.x_val).float()
    logits = module(x)
    for r in range(3):
        alone = networks.LeNet(4, 3, torch.from_numpy(built.heads[r])).load_flat(built.weights[r])
        torch.testing.assert_close(logits[:, r], alone(x), atol=1e-5, rtol=1e-4)
    y = torch.from_numpy(examples.y_val)
    loss = [functional.cross_entropy(logits[:, r], y).item() for r in range(3)]
    np.testing.assert_allclose(built.evaluate()[0], loss, rtol=1e-4)


def test_the_frozen_head_is_orthogonal():
    head = networks.orthogonal_head(5, 0, 2)
    np.testing.assert_allclose(head @ head.T, np.eye(5), atol=1e-14)


def test_loss_and_accuracy_at_initialisation():
    config = at_scale(GeomnistDynamics, "smoke", networks=20, iterations=1)
    run = Run(config)
    experiment.train(config, run)
    loss, accuracy = run.arrays["val_loss"].values[0], run.arrays["val_accuracy"].values[0]
    assert abs(loss.mean() - math.log(3)) < 0.02 and abs(accuracy.mean() - 1 / 3) < 0.1


def test_maxpool_and_relu_commute():
    x = torch.randn(2, 3, 8, 8)
    a, b = functional.relu(functional.max_pool2d(x, 2)), functional.max_pool2d(functional.relu(x), 2)
    assert torch.equal(a, b)


class Stopped(Exception):
    pass


class Keeper(Run):
    """A run in memory that keeps its newest checkpoint, and stops when told to."""

    def __init__(self, config, saved=None, stop=None):
        super().__init__(config)
        self.saved, self.stop = saved, stop

    def save(self, iteration, state):
        self.saved = iteration, state
        if self.stop is not None and iteration >= self.stop:
            raise Stopped

    def restore(self):
        return self.saved


@pytest.mark.parametrize("every", [50, 37])
def test_a_resumed_run_has_the_same_bits(every):
    config = at_scale(GeomnistDynamics, "smoke", corruption=0.4, checkpoint_every=every, networks=3, iterations=170)
    whole = Keeper(config)
    experiment.train(config, whole)
    stopped = Keeper(config, stop=60)
    with pytest.raises(Stopped):
        experiment.train(config, stopped)
    resumed = Keeper(config, saved=stopped.saved)
    experiment.train(config, resumed)
    assert whole.arrays.keys() == resumed.arrays.keys()
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name].values, array.values)
    steps = dict(stopped.metrics["val/loss"]) | dict(resumed.metrics["val/loss"])
    assert steps == dict(whole.metrics["val/loss"])


def test_checkpoints_between_evaluations_hold_what_was_trained():
    """An evaluation that is far away must not let a killed training start anew."""
    config = at_scale(GeomnistDynamics, "smoke", eval_every=1000, checkpoint_every=40, networks=3, iterations=100)
    whole = Keeper(config)
    experiment.train(config, whole)
    stopped = Keeper(config, stop=80)
    with pytest.raises(Stopped):
        experiment.train(config, stopped)
    iteration, state = stopped.saved
    assert iteration == 80 and state["progress"]["done"] == 80
    assert state["logits"][:, :80].abs().min() > 0 and not state["logits"][:, 80:].any()
    resumed = Keeper(config, saved=stopped.saved)
    experiment.train(config, resumed)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name].values, array.values)
    assert resumed.metrics["train/loss"] == whole.metrics["train/loss"]


def test_arrays_of_a_run():
    config = at_scale(CifarDynamics, "smoke", classes=4, networks=3, iterations=120)
    run = Run(config)
    experiment.train(config, run)
    logits, labels = run.arrays["logits"].values, run.arrays["labels"].values
    assert logits.shape == (3, 120, 4) and labels.shape == (3, 120) and np.abs(logits).max() > 0
    examples = data.load(config).examples
    np.testing.assert_array_equal(labels, examples.y_train[run.arrays["samples"].values])
    assert run.arrays["evaluated"].values.tolist() == [0, 100, 120]
    loss = experiment.cross_entropy(logits, labels)
    wanted = functional.cross_entropy(torch.from_numpy(logits).flatten(0, 1), torch.from_numpy(labels).flatten().long())
    assert loss.mean() == pytest.approx(wanted.item(), rel=1e-5)


def test_real_cifar_or_a_sentence():
    from reprod.errors import BadInput

    config = at_scale(CifarDynamics, "small", n_train=20, n_val=20)
    try:
        found = data.load(config)
    except BadInput as error:
        pytest.skip(str(error)[:80])
    assert found.examples.x_train.shape == (60, 3, 32, 32)
    assert np.abs(found.examples.x_train).max() <= 1 and found.examples.x_train.min() < -0.5
    np.testing.assert_array_equal(np.bincount(found.examples.y_train), [20, 20, 20])
