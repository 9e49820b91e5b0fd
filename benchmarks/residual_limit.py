"""Gradient descent of the scaled residual network (Marion et al. 2024): plain autograd against the reverse sweep.

    python benchmarks/residual_limit.py [--depth 64] [--repeats 5] [--threads 1] [--conv]

Plain autograd is the loop that one writes first: a list of leaves for each layer, `backward()`, an update under
`no_grad`. Several seeds are trained one by one by it, together by the sweeps; "batched" gives autograd the same
batch. Microseconds per layer, iteration and seed, the best of repeats that take turns: on one thread in CPU time, so
that other work on the machine counts little; with `--threads 2` in wall time, on a machine that must be idle. `--conv`
times a step of the convolutional network of depth 256.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from reprod.residual_limit import network
from reprod.residual_limit.network import Descent, Law

N, D, M = 100, 16, 32


def autograd(X: Tensor, Y: Tensor, depth: int, W: Tensor) -> Callable[[], None]:
    """One step of the plain loop; X, Y (n, d) of one seed, or (S, n, d) of a batch."""
    batch = X.shape[:-2]
    V = [torch.zeros(*batch, M, D, dtype=X.dtype, requires_grad=True) for _ in range(depth)]
    Ws = [W.clone().requires_grad_() for _ in range(depth)]

    def step() -> None:
        h = X
        for k in range(depth):
            h = h + torch.nn.functional.gelu(h @ Ws[k]) @ V[k] / depth
        loss = (h - Y).square().mean((-2, -1)).sum()
        loss.backward()
        with torch.no_grad():
            for z in (*V, *Ws):
                assert z.grad is not None
                z -= 0.01 * depth * z.grad
                z.grad = None

    return step


def cases(depth: int, seeds: int, dtype: torch.dtype) -> dict[str, tuple[Callable[[], object], int]]:
    """Name -> (a function that takes one step, how many seeds it trains)."""

    def fresh() -> tuple[Tensor, Tensor, network.Weights]:
        X, Y, (net,) = network.initial(range(seeds), [depth], n=N, d=D, m=M, dtype=dtype)
        return X, Y, net

    X, Y, net = fresh()
    found: dict[str, tuple[Callable[[], object], int]] = {
        "plain autograd": (autograd(X[0], Y[0], depth, net.W[0, 0]), 1),
        "batched autograd": (autograd(X, Y, depth, net.W[:, 0]), seeds),
        "sweep, torch": (Descent(Law(), *fresh_list(fresh()), "torch").step, seeds),
    }
    found["sweep, compiled"] = (Descent(Law(), *fresh_list(fresh()), "numba").step, seeds)
    return found


def fresh_list(parts: tuple[Tensor, Tensor, network.Weights]) -> tuple[Tensor, Tensor, list[network.Weights]]:
    X, Y, net = parts
    return X, Y, [net]


def best(steps: dict[str, Callable[[], object]], repeats: int, iterations: int = 3) -> dict[str, float]:
    """Seconds of one call, the best over repeats that take turns."""
    for step in steps.values():
        step()
    times = dict.fromkeys(steps, float("inf"))
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(repeats):
        for name, step in steps.items():
            began = clock()
            for _ in range(iterations):
                step()
            times[name] = min(times[name], (clock() - began) / iterations)
    return times


def convolutional(repeats: int) -> None:
    from reprod.residual_limit import conv

    x, y = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    steps: dict[str, Callable[[], object]] = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
        model = conv.build(0, 256, 16, "gelu", True, "tied").to(memory_format=layout)
        sgd = torch.optim.SGD(model.parameters(), lr=0.04, momentum=0.9, weight_decay=5e-4)
        images = x.contiguous(memory_format=layout)

        def step(model=model, sgd=sgd, images=images) -> None:
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(model(images), y).backward()
            sgd.step()

        steps[name] = step
    for name, seconds in best(steps, repeats, 1).items():
        print(f"convolutional, depth 256, batch 64, {name}: {seconds:.2f} s a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--conv", action="store_true", help="also the convolutional network")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'':22}{'':10}{'us per layer, iteration, seed':>30}{'ratio to plain':>16}")
    for dtype in (torch.float64, torch.float32):
        for seeds in (1, 20):
            made = cases(options.depth, seeds, dtype)
            times = best({name: step for name, (step, _) in made.items()}, options.repeats)
            each = {name: 1e6 * seconds / options.depth / made[name][1] for name, seconds in times.items()}
            for name, us in each.items():
                label = f"{str(dtype).removeprefix('torch.')}, {seeds} seed{'s' if seeds > 1 else ''}"
                print(f"{label:22}{name:20}{us:>20.1f}{each['plain autograd'] / us:>16.1f}", flush=True)
    if options.conv:
        convolutional(options.repeats)


if __name__ == "__main__":
    main()
