"""The non-linear networks of the paper: ReLU perceptrons with degenerate truths, and ResNet18 as haiku defines it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprod.training import torch_stream


def truncated_normal_(tensor: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Standard normal truncated to [-2, 2], times 1/sqrt(fan_in), in place."""
    nn.init.trunc_normal_(tensor, 0.0, 1.0, -2.0, 2.0, generator=generator)
    tensor.mul_(1.0 / math.sqrt(fan_in))


class ReluMlp(nn.Module):
    """Linear layers with biases and ReLU between them: truncated-normal weights, hidden biases N(0, 1), last bias 0.

    Args:
        widths: input, hidden layers, output.
        duplicated: hidden units of the first layer that are copies of unit 0 (weights and bias), which makes the truth
            degenerate.
    """

    def __init__(self, widths: Sequence[int], *, seed: int = 0, duplicated: Sequence[int] = ()):
        super().__init__()
        if duplicated and max(duplicated) >= widths[1]:
            raise ValueError(f"duplicated unit {max(duplicated)} does not exist in a layer of {widths[1]}")
        self.arguments = {"widths": list(widths), "seed": seed, "duplicated": list(duplicated)}
        generator = torch_stream(seed, "truth")
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
        with torch.no_grad():
            for layer in layers:
                truncated_normal_(layer.weight, layer.in_features, generator)
                layer.bias.normal_(generator=generator)
            layers[-1].bias.zero_()
            for unit in duplicated:
                layers[0].weight[unit] = layers[0].weight[0]
                layers[0].bias[unit] = layers[0].bias[0]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


# -- ResNet18, version 1, as in haiku ----------------------------------------------------------------------------------


class BatchNorm(nn.Module):
    """Batch normalisation whose running statistics are exponential averages without initial bias (decay 0.9).

    With a_t = decay a_{t-1} + (1 - decay) s_t the running value is a_t/(1 - decay^t); variances are biased, as in
    haiku.
    """

    hidden_mean: Tensor
    hidden_var: Tensor
    count: Tensor

    def __init__(self, channels: int, *, decay: float = 0.9, eps: float = 1e-5):
        super().__init__()
        self.decay, self.eps = decay, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("hidden_mean", torch.zeros(channels))
        self.register_buffer("hidden_var", torch.zeros(channels))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
                self.hidden_mean.lerp_(mean, 1 - self.decay)
                self.hidden_var.lerp_(var, 1 - self.decay)
                self.count += 1
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        # Before the first training step the statistics are those of a standard normal.
        bias = 1 - self.decay**self.count
        known = self.count > 0
        mean = torch.where(known, self.hidden_mean / bias.clamp(min=1e-30), torch.zeros_like(self.hidden_mean))
        var = torch.where(known, self.hidden_var / bias.clamp(min=1e-30), torch.ones_like(self.hidden_var))
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)


class SameConv(nn.Conv2d):
    """Convolution without bias, with SAME padding: asymmetric for stride 2 (2 left, 3 right for 7x7 on 32)."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, generator: torch.Generator):
        super().__init__(inputs, outputs, size, stride, bias=False)
        with torch.no_grad():
            truncated_normal_(self.weight, inputs * size * size, generator)

    def forward(self, x: Tensor) -> Tensor:
        size, stride = self.kernel_size[0], self.stride[0]
        left, right = same_padding(x.shape[-1], size, stride)
        if left == right:
            return F.conv2d(x, self.weight, None, stride, left)
        return F.conv2d(F.pad(x, (left, right, left, right)), self.weight, None, stride)


def same_padding(extent: int, size: int, stride: int) -> tuple[int, int]:
    """Padding left and right that makes the output ceil(extent/stride) long; the odd one goes right."""
    total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
    return total // 2, total - total // 2


class Block(nn.Module):
    """conv3x3 - BN - ReLU - conv3x3 - BN, plus the input or its projection, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool, generator: torch.Generator):
        super().__init__()
        self.conv1, self.norm1 = SameConv(inputs, outputs, 3, stride, generator), BatchNorm(outputs)
        self.conv2, self.norm2 = SameConv(outputs, outputs, 3, 1, generator), BatchNorm(outputs)
        self.shortcut = (
            nn.Sequential(SameConv(inputs, outputs, 1, stride, generator), BatchNorm(outputs))
            if project
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet18 on 32x32 images with k, 2k, 4k, 8k channels: 11 181 642 parameters at k = 64, 45 102 at k = 4.

    Images enter as uint8 or as floats in [0, 1]; the last layer starts at zero.
    """

    def __init__(self, width: int = 64, *, seed: int = 0, classes: int = 10):
        super().__init__()
        self.arguments = {"width": width, "seed": seed, "classes": classes}
        generator = torch_stream(seed, "init")
        self.stem, self.norm = SameConv(3, width, 7, 2, generator), BatchNorm(width)
        blocks, inputs = [], width
        for group, stride in enumerate((1, 2, 2, 2)):
            outputs = width * 2**group
            blocks += [
                Block(inputs, outputs, stride, group > 0, generator),
                Block(outputs, outputs, 1, False, generator),
            ]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.uint8:
            x = x.to(self.head.weight.dtype) / 255
        x = F.relu(self.norm(self.stem(x)))
        left, right = same_padding(x.shape[-1], 3, 2)
        x = F.max_pool2d(F.pad(x, (left, right, left, right), value=-math.inf), 3, 2)
        return self.head(self.blocks(x).mean((2, 3)))
