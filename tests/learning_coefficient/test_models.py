"""The paper's non-linear networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprod.learning_coefficient.models import BatchNorm, ReluMlp, ResNet18, SameConv, same_padding


@pytest.mark.parametrize(
    ("width", "parameters"), [(64, 11_181_642), (16, 703_386), (8, 177_362), (4, 45_102), (1, 3_111)]
)
def test_resnet_has_the_published_number_of_parameters(width, parameters):
    assert sum(p.numel() for p in ResNet18(width).parameters()) == parameters


def test_resnet_starts_at_uniform_predictions_and_takes_both_kinds_of_pixels():
    model = ResNet18(2).eval()
    pixels = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(model(pixels), torch.zeros(3, 10))
    nn.init.normal_(model.head.weight)
    torch.testing.assert_close(model(pixels), model(pixels.float() / 255))


def test_same_padding_is_asymmetric_for_stride_two():
    assert same_padding(32, 7, 2) == (2, 3)
    assert same_padding(16, 3, 2) == (0, 1)
    assert same_padding(8, 3, 1) == (1, 1)
    assert same_padding(8, 1, 2) == (0, 0)
    conv = SameConv(2, 3, 7, 2, torch.Generator())
    x = torch.randn(1, 2, 32, 32)
    expected = F.conv2d(F.pad(x, (2, 3, 2, 3)), conv.weight, stride=2)
    torch.testing.assert_close(conv(x), expected)
    assert expected.shape[-1] == 16


def test_batch_norm_averages_without_initial_bias():
    norm = BatchNorm(2)
    x = 3 + 2 * torch.randn(50, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm.eval()(x), x / (1 + 1e-5) ** 0.5)
    norm.train()(x)
    # After one step the running statistics are those of the batch, with the biased variance.
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    expected = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(norm.eval()(x), expected, rtol=1e-4, atol=1e-4)
    norm.train()(2 * x)
    statistics = norm.hidden_mean / (1 - 0.9**2)
    torch.testing.assert_close(statistics, (0.09 * mean + 0.1 * 2 * mean) / 0.19, rtol=1e-4, atol=1e-4)


def test_truth_is_degenerate_where_asked():
    model = ReluMlp((4, 10, 4), seed=1, duplicated=(1, 2, 5))
    w, b = model.layers[0].weight, model.layers[0].bias
    assert all(torch.equal(w[i], w[0]) and b[i] == b[0] for i in (1, 2, 5))
    assert not torch.equal(w[3], w[0])
    assert torch.equal(model.layers[1].bias, torch.zeros(4))
    again = ReluMlp(**model.arguments)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="duplicated unit 10 does not exist"):
        ReluMlp((4, 10, 4), duplicated=(10,))


@pytest.mark.parametrize(("widths", "parameters"), [((10, 20, 10), 430), ((20, 30, 20), 1250), ((10, 20, 20, 10), 850)])
def test_perceptrons_have_the_published_number_of_parameters(widths, parameters):
    model = ReluMlp(widths)
    assert sum(p.numel() for p in model.parameters()) == parameters
    first = model.layers[0].weight.detach().numpy()
    assert np.abs(first).max() <= 2 / np.sqrt(widths[0])
