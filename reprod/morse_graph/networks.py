"""The networks as ordinary torch modules: for storing a trained network, and as the reference of the kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .architectures import ARCHITECTURES, DROPOUT, POOL, Architecture


class Network(nn.Module):
    """One network of `architectures.ARCHITECTURES`, returning logits (n, C); inputs (n, 2) or (n, 28, 28).

    The parameters are kept in Keras's layout (convolution kernels (row, column, in, out), dense kernels (in, out)), so
    that `load_flat` is a sequence of reshapes.

    Raises:
        KeyError: an architecture that is not in the table.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.architecture: Architecture = ARCHITECTURES[architecture]
        layers = self.architecture.layers
        self.kernels = nn.ParameterList([torch.zeros(layer.shape) for layer in layers])
        self.biases = nn.ParameterList([torch.zeros(layer.shape[-1]) for layer in layers])

    def load_flat(self, weights: Tensor) -> Network:
        """Copies a flat parameter vector (P,) into the layers; returns self."""
        start = 0
        with torch.no_grad():
            for layer, kernel, bias in zip(self.architecture.layers, self.kernels, self.biases, strict=True):
                kernel.copy_(weights[start : start + layer.kernel_size].reshape(layer.shape))
                bias.copy_(weights[start + layer.kernel_size : start + layer.size])
                start += layer.size
        return self

    def flat(self, of: str = "data") -> Tensor:
        """The parameters (or with `of="grad"` their gradients) as one vector (P,)."""
        return torch.cat(
            [getattr(p, of).flatten() for pair in zip(self.kernels, self.biases, strict=True) for p in pair]
        )

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Logits; `keep` (n, features) of zeros and ones is a dropout mask, None switches dropout off."""
        if self.architecture.dataset == "mnist":
            x = x.reshape(-1, 1, 28, 28)
            for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
                x = torch.relu(nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias))
            x = nn.functional.max_pool2d(x, POOL).permute(0, 2, 3, 1).flatten(1)
            if keep is not None:
                x = x * keep / (1 - DROPOUT)
        else:
            for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
                x = torch.softmax(x @ kernel + bias, dim=-1)
        return x @ self.kernels[-1] + self.biases[-1]
