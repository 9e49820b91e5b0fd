"""The compiled epochs against autograd and Keras's Adam; independence of batch, threads and pauses."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from reprod.data import iris
from reprod.morse_graph import training
from reprod.morse_graph.architectures import ARCHITECTURES
from reprod.morse_graph.networks import Networks

NAMES = sorted(ARCHITECTURES)


def numbered(*numbers):
    """Networks of seed 0."""
    return [(0, r) for r in numbers]


def samples(name, n=23, seed=0):
    rng = np.random.default_rng(seed)
    architecture = ARCHITECTURES[name]
    if architecture.dataset == "iris":
        return rng.normal(size=(n, 2)).astype(np.float32), rng.integers(0, 3, n)
    images = rng.uniform(0, 1, (n, 28, 28)) * (rng.uniform(size=(n, 28, 28)) < 0.3)
    return images.astype(np.float32), rng.integers(0, 2, n)


@pytest.mark.parametrize(
    ("name", "kernels", "parameters"),
    [
        ("iris_L1", 6, 9),
        ("iris_L2", 15, 21),
        ("iris_L3", 24, 33),
        ("iris_L4", 33, 45),
        ("iris_N6", 30, 39),
        ("mnist_L1", 54, 58),
        ("mnist_L2", 90, 96),
        ("mnist_L3", 126, 134),
        ("mnist_L4", 142, 152),
    ],
)
def test_sizes_of_the_networks(name, kernels, parameters):
    architecture = ARCHITECTURES[name]
    assert len(architecture.kernel_names) == len(architecture.kernel_index) == kernels
    assert len(set(architecture.kernel_names)) == kernels
    assert architecture.size == parameters
    assert Networks(name, 3).weights.shape == (3, parameters)


def test_names_count_layers_per_kind_in_graph_order():
    names = ARCHITECTURES["mnist_L2"].kernel_names
    assert (names[0], names[18], names[54], names[-1]) == (
        "conv_kernel_0_0",
        "conv_kernel_1_0",
        "dense_kernel_0_0",
        "dense_kernel_0_35",
    )


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_fill_their_ranges_and_biases_are_zero(name):
    architecture = ARCHITECTURES[name]
    weights = np.stack([training.initial_weights(architecture, 0, r) for r in range(300)])
    kernels = np.isin(np.arange(architecture.size), architecture.kernel_index)
    assert not weights[:, ~kernels].any()
    limits = np.repeat([a.limit for a in architecture.layers], [a.kernel_size for a in architecture.layers])
    scaled = weights[:, kernels] / limits
    assert np.abs(scaled).max() <= 1
    assert abs(scaled.std() - 1 / np.sqrt(3)) < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_one_epoch_of_full_batches_follows_autograd_and_keras_adam(name):
    """With the whole set as one batch the order does not matter, so an autograd step gives the same weights."""
    x, y = samples(name)
    ensemble = training.build(ARCHITECTURES[name], x, y, batch_size=len(y))
    state = ensemble.init(numbered(3))
    network = Networks(name, 1)
    w, m, v = state.weights[0].double(), 0.0, 0.0
    keep = None
    for t in range(1, 4):
        network.weights.data[0] = w
        if name.startswith("mnist"):
            keep = torch.from_numpy(dropout_mask(name, number=3, epoch=t - 1, n=len(y)))
        loss = torch.nn.functional.cross_entropy(network.logits(torch.from_numpy(x), keep)[0], torch.from_numpy(y))
        g = torch.autograd.grad(loss, network.weights)[0][0].double()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 1e-3 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (v.sqrt() + 1e-7)
        state = ensemble.update(state)
        assert float(state.loss[0]) == pytest.approx(loss.item(), rel=1e-4)
        torch.testing.assert_close(state.weights[0], w.float(), atol=3e-6, rtol=1e-4)


def dropout_mask(name, number, epoch, n):
    """Two bits of SplitMix64 for each unit, written again in plain Python."""
    gamma, word = 0x9E3779B97F4A7C15, (1 << 64) - 1

    def mix(z):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
        return z ^ (z >> 31)

    units = ARCHITECTURES[name].layers[-1].shape[0]
    masks = mix((int(training.key(0, number, "dropout")) + epoch * gamma) & word)
    rows = [mix((masks + (i + 1) * gamma) & word) for i in range(n)]
    return np.array([[(bits >> 2 * u) & 3 != 0 for u in range(units)] for bits in rows])


def test_dropout_keeps_three_quarters():
    mask = dropout_mask("mnist_L1", number=1, epoch=0, n=2000)
    assert abs(mask.mean() - 0.75) < 0.01
    assert np.abs(np.corrcoef(mask.T) - np.eye(18)).max() < 0.1


@pytest.mark.parametrize("name", ["iris_L1", "iris_L3", "mnist_L1", "mnist_L2"])
def test_batched_serial_threaded_and_interrupted_training_agree_to_the_bit(name):
    x, y = samples(name, n=33)
    ensemble = training.build(ARCHITECTURES[name], x, y, batch_size=5, threads=1)
    whole = ensemble.update(ensemble.init(numbered(*range(5))), 4)
    alone = ensemble.update(ensemble.init(numbered(3)), 4)
    assert torch.equal(whole.weights[3], alone.weights[0])
    assert torch.equal(whole.early[3], alone.early[0])
    threaded = training.build(ARCHITECTURES[name], x, y, batch_size=5, threads=2)
    resumed = training.State(**threaded.update(threaded.init(numbered(*range(5))), 1).tensors())
    resumed = threaded.update(threaded.update(resumed, 2), 1)
    for key, value in whole.tensors().items():
        assert torch.equal(value, resumed.tensors()[key]), key


def test_no_two_networks_of_two_seeds_start_alike():
    """Not even the second network of seed 0 and the first of seed 1, or numbers beyond any ensemble's size."""
    networks = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 100_000), (2, 200_001)]
    starts = [training.initial_weights(ARCHITECTURES["iris_L1"], *network).tobytes() for network in networks]
    assert len(set(starts)) == len(networks)
    keys = {training.key(*network, purpose) for network in networks for purpose in ("batches", "dropout")}
    assert len(keys) == 2 * len(networks)


def test_early_snapshot_is_the_state_after_two_epochs():
    x, y = samples("iris_L1")
    ensemble = training.build(ARCHITECTURES["iris_L1"], x, y, batch_size=5)
    two = ensemble.update(ensemble.init(numbered(0, 1)), 2)
    assert torch.equal(two.early, two.weights)
    assert torch.equal(ensemble.update(two, 3).early, two.weights)


def test_orders_differ_between_networks_and_epochs():
    """A one-sample batch ends an epoch near its last sample: equal starts must part."""
    x, y = samples("iris_L1", n=40)
    ensemble = training.build(ARCHITECTURES["iris_L1"], x, y, batch_size=1)
    state = ensemble.init(numbered(0, 1))
    state = training.State(**{**state.tensors(), "weights": state.weights[:1].repeat(2, 1)})
    after = ensemble.update(state)
    assert not torch.equal(after.weights[0], after.weights[1])


@pytest.mark.parametrize("name", NAMES)
def test_predictions_equal_the_module(name):
    x, y = samples(name)
    ensemble = training.build(ARCHITECTURES[name], x, y, batch_size=5)
    state = ensemble.update(ensemble.init(numbered(0, 1, 2)), 2)
    prob, loss = ensemble.predict(state.weights, x, y)
    networks = Networks(name, 3).requires_grad_(False)
    networks.weights.copy_(state.weights)
    logits = networks.logits(torch.from_numpy(x))
    torch.testing.assert_close(prob, torch.softmax(logits, -1), atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(prob.mean(dim=0), networks(torch.from_numpy(x)), atol=2e-6, rtol=1e-4)
    for r in range(3):
        expected = torch.nn.functional.cross_entropy(logits[r], torch.from_numpy(y))
        assert float(loss[r]) == pytest.approx(expected.item(), rel=1e-4)


def test_a_batch_larger_than_the_data_is_all_of_them():
    x, y = samples("iris_L1")
    whole, larger = (training.build(ARCHITECTURES["iris_L1"], x, y, batch_size=b) for b in (len(y), 10**30))
    assert torch.equal(*(e.update(e.init(numbered(0)), 3).weights for e in (whole, larger)))


def test_inputs_of_the_wrong_shape_are_refused():
    x, y = samples("iris_L1")
    with pytest.raises(ValueError, match=r"iris_L1 reads inputs of shape \(23, 2\)"):
        training.build(ARCHITECTURES["iris_L1"], x[:, :1], y, batch_size=5)
    with pytest.raises(ValueError, match="batch_size"):
        training.build(ARCHITECTURES["iris_L1"], x, y, batch_size=0)


def test_iris_split_is_the_papers():
    data = iris.load()
    assert np.bincount(data.train_y).tolist() == [23, 27, 25]
    assert np.bincount(data.test_y).tolist() == [27, 23, 25]
    both = np.concatenate([data.train_x, data.test_x])
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(both.std(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(iris.load("train").train_x.mean(axis=0), 0, atol=1e-6)


DIGEST = """
import hashlib
from reprod.morse_graph import training
from reprod.morse_graph.architectures import ARCHITECTURES
from tests.morse_graph.test_training import numbered, samples

for name in ("mnist_L3", "iris_L3"):
    x, y = samples(name, 60)
    ensemble = training.build(ARCHITECTURES[name], x, y, batch_size=8)
    state = ensemble.update(ensemble.init(numbered(*range(4))), 3)
    prob, loss = ensemble.predict(state.weights, x, y)
    for part in (state.weights, state.second_moment, prob, loss):
        print(name, hashlib.sha256(part.numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_freshly_compiled_and_cached_kernels_have_equal_bits(tmp_path):
    """A process that compiles, one that loads, and one that finds half of the functions in the cache."""
    found = []
    for _ in range(3):
        command = [sys.executable, "-c", DIGEST]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        found.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        if len(found) == 2:
            for index in tmp_path.rglob("*_epochs*.nbi"):
                index.unlink()
            for index in tmp_path.rglob("*_conv_next*.nbi"):
                index.unlink()
    assert len(found[0].splitlines()) == 8
    assert found[0] == found[1] == found[2]
