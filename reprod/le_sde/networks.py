"""The LeNet of Zhang et al. (2021), as a module, as a flat vector of parameters, and a whole ensemble of it.

    conv 5x5 (C -> 6), ReLU, maxpool 2, conv 5x5 (6 -> 16), ReLU, maxpool 2, flatten 400 (channel, row, column),
    fc 120, ReLU, fc 84, ReLU, fc K        [, a frozen random orthogonal K x K matrix: the rdH variant]

61,111 parameters for one input channel and K = 3, 61,411 for three channels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reprod.training import stream


def shapes(classes: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters in the order of the flat vector."""
    return {
        "conv1.weight": (6, channels, 5, 5), "conv1.bias": (6,),
        "conv2.weight": (16, 6, 5, 5), "conv2.bias": (16,),
        "fc1.weight": (120, 400), "fc1.bias": (120,),
        "fc2.weight": (84, 120), "fc2.bias": (84,),
        "fc3.weight": (classes, 84), "fc3.bias": (classes,),
    }  # fmt: skip


def size(classes: int, channels: int) -> int:
    """How many parameters a network has."""
    return sum(math.prod(shape) for shape in shapes(classes, channels).values())


def initial(classes: int, channels: int, seed: int, trial: int) -> np.ndarray:
    """Flat parameters (P,) float64 of one trial: weights and biases ~ U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's
    default."""
    rng = stream(seed, f"trial/{trial}/init")
    parts = []
    bound = 0.0
    for shape in shapes(classes, channels).values():
        if len(shape) > 1:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
        parts.append(rng.uniform(-bound, bound, math.prod(shape)))
    return np.concatenate(parts)


def orthogonal_head(classes: int, seed: int, trial: int) -> np.ndarray:
    """A Haar-distributed orthogonal matrix (K, K): QR of a Gaussian, the signs of R's diagonal moved into Q."""
    q, r = np.linalg.qr(stream(seed, f"trial/{trial}/head").standard_normal((classes, classes)))
    return q * np.sign(np.diag(r))


class LeNet(nn.Module):
    """One network; `load_flat` takes a flat vector of parameters. `head` (K, K) is frozen."""

    def __init__(self, classes: int = 3, channels: int = 1, head: Tensor | None = None):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        self.register_buffer("head", head)

    def load_flat(self, weights: np.ndarray) -> LeNet:
        nn.utils.vector_to_parameters(torch.from_numpy(np.array(weights)), self.parameters())
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        x = self.fc3(functional.relu(self.fc2(x)))
        return x if self.head is None else x @ self.get_buffer("head").T


class LeNets(nn.Module):
    """R trained networks in one module: images (n, C, 32, 32) to logits (n, R, K).

    weights: (R, P), the trials' flat parameters; heads: (R, K, K), the identity without the rdH variant.
    """

    exportable = True

    def __init__(self, trials: int, classes: int = 3, channels: int = 1):
        super().__init__()
        self.trials, self.classes, self.channels = trials, classes, channels
        self.weights = nn.Parameter(torch.zeros(trials, size(classes, channels)), requires_grad=False)
        self.register_buffer("heads", torch.eye(classes).repeat(trials, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        r, parts, at = self.trials, {}, 0
        for name, shape in shapes(self.classes, self.channels).items():
            parts[name] = self.weights[:, at : at + math.prod(shape)].reshape(r, *shape)
            at += math.prod(shape)
        first = functional.conv2d(x, parts["conv1.weight"].flatten(0, 1), parts["conv1.bias"].flatten())
        x = functional.max_pool2d(functional.relu(first), 2)
        second = functional.conv2d(x, parts["conv2.weight"].flatten(0, 1), parts["conv2.bias"].flatten(), groups=r)
        x = functional.max_pool2d(functional.relu(second), 2).flatten(1).unflatten(1, (r, 400))
        for name in ("fc1", "fc2", "fc3"):
            x = torch.einsum("nri,roi->nro", x, parts[f"{name}.weight"]) + parts[f"{name}.bias"]
            x = functional.relu(x) if name != "fc3" else x
        return torch.einsum("nri,roi->nro", x, self.heads)
