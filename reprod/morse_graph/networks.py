"""A trained ensemble as an ordinary torch module: for the store, and as the reference of the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d

from .architectures import ARCHITECTURES, DROPOUT, POOL


class Networks(nn.Module):
    """R networks of one architecture; `weights` (R, P) holds all parameters in `architectures`' layout.

    Calling it gives the mean prediction of the ensemble (n, C), `probabilities` those of every network.

    Raises:
        KeyError: an architecture that is not in the table.
    """

    exportable = True

    def __init__(self, architecture: str, networks: int) -> None:
        super().__init__()
        self.architecture = ARCHITECTURES[architecture]
        self.weights = nn.Parameter(torch.zeros(networks, self.architecture.size))

    def forward(self, x: Tensor) -> Tensor:
        return self.probabilities(x).mean(dim=0)

    def probabilities(self, x: Tensor) -> Tensor:
        """(R, n, C) for inputs (n, 2) or (n, 28, 28)."""
        return torch.softmax(self.logits(x), dim=-1)

    def logits(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(R, n, C); `keep` (R, n, features) of zeros and ones is a dropout mask, None switches dropout off."""
        layers = self.architecture.layers
        count = len(self.weights)
        sizes = [size for layer in layers for size in (layer.kernel_size, layer.shape[-1])]
        parts = self.weights.split(sizes, dim=1)
        kernels = [part.reshape(count, *layer.shape) for part, layer in zip(parts[::2], layers, strict=True)]
        biases = parts[1::2]
        hidden = list(zip(kernels[:-1], biases[:-1], strict=True))
        if self.architecture.dataset == "mnist":
            x = x.reshape(-1, 1, 28, 28)
            for i, (kernel, bias) in enumerate(hidden):  # the networks side by side, as groups of channels
                filters = kernel.permute(0, 4, 3, 1, 2).flatten(0, 1)
                x = torch.relu(conv2d(x, filters, bias.flatten(), groups=count if i else 1))
            x = max_pool2d(x, POOL)
            rows, columns = x.shape[-2:]
            x = x.reshape(-1, count, 2, rows, columns).permute(1, 0, 3, 4, 2).flatten(2)
            if keep is not None:
                x = x * keep / (1 - DROPOUT)
        else:
            for kernel, bias in hidden:
                x = torch.softmax(x @ kernel + bias[:, None], dim=-1)
        return x @ kernels[-1] + biases[-1][:, None]
