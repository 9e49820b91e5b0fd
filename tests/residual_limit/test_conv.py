"""The convolutional network, its images and its schedule."""

import numpy as np
import pytest
import torch
from torch import nn

from reprod.data import images
from reprod.residual_limit import cifar, conv, pictures
from reprod.residual_limit.config import CifarResnet


def step(model, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(16, 3, 32, 32, generator=g), torch.randint(10, (16,), generator=g)
    loss = nn.functional.cross_entropy(model(x), y)
    model.zero_grad()
    loss.backward()
    return x


@pytest.mark.parametrize(("bn", "per_layer"), [(True, 4704), (False, 4640)])
def test_parameter_count(bn, per_layer):
    model = conv.build(0, 4, 16, "gelu", bn, "tied")
    assert sum(p.numel() for p in model.parameters()) == 1200 + 32 + 4 * per_layer + 650


@pytest.mark.parametrize("init", ["tied", "iid"])
@pytest.mark.parametrize("bn", [True, False])
def test_residual_stack_is_the_identity_at_the_start(bn, init):
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    shallow, deep = (conv.build(3, L, 16, "relu", bn, init).eval() for L in (2, 9))
    assert torch.equal(shallow(x), deep(x))


@pytest.mark.parametrize(("bn", "moving"), [(True, {"b2.weight", "b2.bias"}), (False, {"c2.weight", "c2.bias"})])
def test_what_has_a_gradient_at_the_start(bn, moving):
    model = conv.build(0, 3, 16, "gelu", bn, "iid")
    step(model)
    for layer in model.layers:
        with_gradient = {n for n, p in layer.named_parameters() if p.grad is not None and float(p.grad.abs().max()) > 0}
        assert with_gradient == moving


@pytest.mark.parametrize("bn", [True, False])
def test_tied_layers_part_at_the_second_step(bn):
    model = conv.build(0, 8, 16, "gelu", bn, "tied")
    sgd = torch.optim.SGD(model.parameters(), lr=0.04, momentum=0.9, weight_decay=5e-4)
    spread = []
    for k in range(2):
        step(model, k)
        sgd.step()
        flat = [torch.cat([p.detach().flatten() for p in layer.parameters()]) for layer in model.layers]
        spread.append(max(float((f - flat[0]).abs().max()) for f in flat))
    assert spread[0] == 0 and 0 < spread[1] < 1e-3


def test_initial_weights():
    model = conv.build(0, 3, 16, "gelu", True, "iid")
    c = conv.convolutions(model, 1)
    assert c.shape == (3, 2304) and 0.9 / 12 < float(c.abs().max()) <= 1 / 12
    assert float((c[0] - c[1]).norm()) == pytest.approx(np.sqrt(2 * 2304) / (12 * np.sqrt(3)), rel=0.05)
    plain = conv.build(0, 3, 16, "gelu", False, "tied")
    assert float(conv.convolutions(plain, 1).abs().max()) <= 1.4434e-5
    assert not conv.convolutions(plain, 2).any() and torch.equal(*conv.convolutions(plain, 1)[:2])


def test_both_starts_share_stem_head_and_first_layer_and_leave_the_random_state():
    before = torch.random.get_rng_state()
    tied, iid = (conv.build(5, 3, 16, "gelu", True, init).state_dict() for init in ("tied", "iid"))
    assert torch.equal(before, torch.random.get_rng_state())
    shared = [name for name in tied if not name.startswith("layers") or name.startswith("layers.0")]
    assert all(torch.equal(tied[name], iid[name]) for name in shared)
    assert not torch.equal(tied["layers.1.c1.weight"], iid["layers.1.c1.weight"])


def test_unknown_words_are_errors():
    with pytest.raises(KeyError):
        conv.ConvResnet(2, sigma="linear")
    with pytest.raises(ValueError, match="tied or iid"):
        conv.ConvResnet(2, init="smooth")


def test_smoothness_of_noise_and_of_a_slow_curve():
    g = torch.Generator().manual_seed(0)
    noise = conv.smoothness(torch.randn(200, 500, generator=g))
    assert noise["ratio"] == pytest.approx(np.sqrt(2), rel=0.01) and abs(noise["autocorrelation"]) < 0.02
    s = torch.linspace(0, 1, 200)[:, None]
    curve = conv.smoothness(torch.cos(6 * s + torch.arange(500)))
    assert curve["ratio"] < 0.05 and curve["autocorrelation"] > 0.95
    equal = conv.smoothness(torch.ones(10, 3))
    assert equal["increment"] == 0 and np.isnan(equal["autocorrelation"])


def test_autocorrelation_is_at_lag_one():
    """Over the layers, of neighbours: +1 and -1 in turns are opposite at lag 1, and equal again at lag 2."""
    k = torch.arange(200)
    turns = (1.0 - 2 * (k % 2))[:, None].repeat(1, 5)
    assert conv.smoothness(turns)["autocorrelation"] == pytest.approx(-1, abs=0.01)
    pairs = (1.0 - 2 * ((k // 2) % 2))[:, None].repeat(1, 5)  # + + - - ...: 0 at lag 1, -1 at lag 2
    assert conv.smoothness(pairs)["autocorrelation"] == pytest.approx(0, abs=0.01)
    g, phi = torch.Generator().manual_seed(0), 0.6
    x = torch.zeros(400, 400, dtype=torch.float64)
    for t in range(1, 400):  # an autoregressive process: phi at lag 1, phi^2 at lag 2
        x[t] = phi * x[t - 1] + torch.randn(400, generator=g, dtype=torch.float64)
    assert conv.smoothness(x)["autocorrelation"] == pytest.approx(phi, abs=0.02)
    shifted = conv.smoothness(x + 100)  # about the mean of each entry
    assert shifted["autocorrelation"] == pytest.approx(phi, abs=0.02)


def test_increment_and_ratio_of_a_walk():
    c = torch.tensor([[3.0, 4.0], [3.0, 5.0], [6.0, 9.0]])  # steps of length 1 and 5
    found = conv.smoothness(c)
    assert found["increment"] == pytest.approx(3)
    assert found["ratio"] == pytest.approx(3 / np.mean([5, 34**0.5, 117**0.5]))


def test_learning_rates():
    rates = [cifar.cosine(0.04, e, 180) for e in range(180)]
    assert rates[0] == 0.04 and rates[90] == pytest.approx(0.02) and 0 < rates[-1] < 1e-5


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_optimizer_decays_everything(adaptive):
    model = conv.build(0, 2, 16, "gelu", True, "tied")
    sgd = cifar.optimizer(CifarResnet(depth=2, adaptive=adaptive), model)
    assert sum(p.numel() for g in sgd.param_groups for p in g["params"]) == sum(p.numel() for p in model.parameters())
    assert [g["base"] for g in sgd.param_groups] == [0.04, 0.01 if adaptive else 0.04]
    assert all(g["weight_decay"] == 5e-4 and g["momentum"] == 0.9 for g in sgd.param_groups)


# -- images -----------------------------------------------------------------------------------------------------------


def test_augmentation_is_crop_and_flip():
    pixels = torch.randint(1, 256, (20, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    epoch = pictures.Epoch(0, 3, 20)
    x, index = epoch.batch(pixels, 5, 10)
    for image, i in zip(x, index, strict=True):
        padded = nn.functional.pad(pixels[i], (4, 4, 4, 4))
        a, b = epoch.crop[i]
        cut = padded[:, a : a + 32, b : b + 32]
        assert torch.equal(image, cut.flip(2) if epoch.flip[i] else cut)
    again = pictures.Epoch(0, 3, 20)
    assert torch.equal(again.order, epoch.order) and not torch.equal(pictures.Epoch(0, 4, 20).order, epoch.order)
    assert sorted(epoch.order.tolist()) == list(range(20))


def test_synthetic_images_are_the_same_every_time_and_normalised_as_cifar():
    a, b = images.synthetic("train", 200), images.synthetic("train", 200)
    assert a.digest == b.digest != images.synthetic("test", 200).digest
    assert a.pixels.shape == (200, 3, 32, 32) and set(a.labels) == set(range(10))
    x = pictures.normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    np.testing.assert_allclose(x[0, :, 0, 0], [(1 - 0.4914) / 0.2023, (1 - 0.4822) / 0.1994, (1 - 0.4465) / 0.2010])
