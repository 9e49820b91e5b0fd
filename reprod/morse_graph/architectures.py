"""The small networks of Eslami et al. (2021): layers, parameter layout, names of the weights. Plain Python, no torch.

All parameters of a network lie in one flat vector: layer by layer in graph order, the kernel in C order
(convolution: row, column, in, out; dense: in, out), then the bias. The phase space of the paper is made of kernel
weights only; `kernel_index` picks them and `kernel_names` gives each the paper's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt
from typing import Literal

Initialiser = Literal["uniform2", "glorot"]

POOL = 7  # side and stride of the max pooling of the MNIST networks
DROPOUT = 0.25


@dataclass(frozen=True)
class Layer:
    """One layer with a kernel of `shape` and a zero bias of `shape[-1]`.

    `uniform2` draws the kernel from U(-2, 2); `glorot` from U(-a, a) with a = sqrt(6 / (fan_in + fan_out)), where the
    fans of a convolution count its receptive field (Keras's convention).
    """

    kind: Literal["dense", "conv"]
    shape: tuple[int, ...]
    init: Initialiser

    @property
    def limit(self) -> float:
        if self.init == "uniform2":
            return 2.0
        field = prod(self.shape[:-2])
        return sqrt(6.0 / (field * (self.shape[-2] + self.shape[-1])))

    @property
    def kernel_size(self) -> int:
        return prod(self.shape)

    @property
    def size(self) -> int:
        return self.kernel_size + self.shape[-1]


@dataclass(frozen=True)
class Architecture:
    """A network: its name, the data set that it reads, and its layers in graph order."""

    name: str
    dataset: Literal["iris", "mnist"]
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Number of parameters, biases included."""
        return sum(layer.size for layer in self.layers)

    @property
    def classes(self) -> int:
        return self.layers[-1].shape[-1]

    @property
    def kernel_index(self) -> tuple[int, ...]:
        """Positions of the kernel weights in the flat parameter vector; biases are left out (section 1.2)."""
        index: list[int] = []
        start = 0
        for layer in self.layers:
            index.extend(range(start, start + layer.kernel_size))
            start += layer.size
        return tuple(index)

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """`conv_kernel_<layer>_<i>` and `dense_kernel_<layer>_<i>`: layers counted per kind, i in C order."""
        seen = {"dense": 0, "conv": 0}
        names: list[str] = []
        for layer in self.layers:
            names.extend(f"{layer.kind}_kernel_{seen[layer.kind]}_{i}" for i in range(layer.kernel_size))
            seen[layer.kind] += 1
        return tuple(names)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of a dense network, input first."""
        return (self.layers[0].shape[0], *(layer.shape[-1] for layer in self.layers))

    @property
    def convolutions(self) -> int:
        return sum(layer.kind == "conv" for layer in self.layers)


def _iris(name: str, hidden: tuple[int, ...]) -> Architecture:
    """Softmax after every layer, the hidden ones too; only the first kernel is drawn from U(-2, 2)."""
    widths = (2, *hidden, 3)
    layers = (Layer("dense", (a, b), "glorot" if i else "uniform2") for i, (a, b) in enumerate(pairwise(widths)))
    return Architecture(name, "iris", tuple(layers))


def _mnist(name: str, convolutions: int) -> Architecture:
    """3x3 ReLU convolutions (1 -> 2 -> ... -> 2), max pooling 7x7, dropout 1/4, dense to two classes."""
    convs = tuple(Layer("conv", (3, 3, 2 if i else 1, 2), "glorot" if i else "uniform2") for i in range(convolutions))
    pooled = (28 - 2 * convolutions) // POOL
    return Architecture(name, "mnist", (*convs, Layer("dense", (2 * pooled * pooled, 2), "uniform2")))


ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        _iris("iris_L1", ()),
        _iris("iris_L2", (3,)),
        _iris("iris_L3", (3, 3)),
        _iris("iris_L4", (3, 3, 3)),
        *(_iris(f"iris_N{k}", (k,)) for k in (3, 4, 5, 6)),
        *(_mnist(f"mnist_L{n}", n) for n in (1, 2, 3, 4)),
    )
}
