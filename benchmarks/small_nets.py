"""Training a hundred small networks (Eslami et al. 2021): compiled and together, against torch one by one.

    python benchmarks/small_nets.py [--mnist] [--threads 2]

One by one is an ordinary loop: a torch module, autograd, Adam, batches of a shuffled order. It is timed on a few
networks and multiplied up; the hundred are timed whole.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

from reprod.data import iris
from reprod.morse_graph import training
from reprod.morse_graph.architectures import ARCHITECTURES


def module(name: str) -> nn.Sequential:
    """One network as torch users write it; the first layer's weights from U(-2, 2)."""
    layers: list[nn.Module] = []
    for layer in ARCHITECTURES[name].layers:
        if layer.kind == "conv":
            layers += [nn.Conv2d(layer.shape[2], layer.shape[3], 3), nn.ReLU()]
        elif layer.shape[0] == 18:
            layers += [nn.MaxPool2d(7), nn.Flatten(), nn.Dropout(0.25), nn.Linear(18, 2)]
        else:
            layers += [nn.Linear(*layer.shape), nn.Softmax(-1)]
    if isinstance(layers[-1], nn.Softmax):  # the loss has it
        layers.pop()
    nn.init.uniform_(layers[0].weight, -2.0, 2.0)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


def one_by_one(name: str, x: np.ndarray, y: np.ndarray, epochs: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    network = module(name)
    optimizer = torch.optim.Adam(network.parameters(), lr=training.RATE, eps=1e-7)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    if x.ndim == 3:
        inputs = inputs[:, None]
    for _ in range(epochs):
        for index in torch.randperm(len(y)).split(batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[index]), labels[index]).backward()
            optimizer.step()


def together(name: str, x: np.ndarray, y: np.ndarray, epochs: int, batch: int, threads: int) -> None:
    ensemble = training.build(ARCHITECTURES[name], x, y, batch_size=batch, threads=threads)
    ensemble.update(ensemble.init([(0, r) for r in range(100)]), epochs)


def seconds(function, *arguments) -> float:
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", action="store_true", help="also the MNIST baseline (minutes)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = iris.load()
    cases = [(name, data.train_x, data.train_y, 150, 5, 2) for name in ("iris_L1", "iris_L2", "iris_L4")]
    if options.mnist:
        from reprod.morse_graph.data import zeros_and_ones

        images = zeros_and_ones("train")
        cases.append(("mnist_L1", images.x, images.y, 4, 128, 1))
    print(f"{'network':10} {'epochs':>6} {'batch':>5} {'one by one, 100 nets':>21} {'together':>9} {'ratio':>6}")
    for name, x, y, epochs, batch, sample in cases:
        together(name, x[:20], y[:20], 1, batch, options.threads)  # compile
        one_by_one(name, x[:20], y[:20], 1, batch, 0)
        fast = min(seconds(together, name, x, y, epochs, batch, options.threads) for _ in range(3))
        slow = 100 / sample * sum(seconds(one_by_one, name, x, y, epochs, batch, r) for r in range(sample))
        print(f"{name:10} {epochs:6} {batch:5} {slow:19.1f} s {fast:7.2f} s {slow / fast:6.0f}")


if __name__ == "__main__":
    main()
