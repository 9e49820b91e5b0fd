"""Zhang et al. (2021): a hundred trials together against one plain loop, and the LE-ODE against a loop over its steps.

    OMP_NUM_THREADS=1 python benchmarks/le_sde.py [--threads 1]

Training, per trial and SGD step (batch size one): the compiled ensemble, and an ordinary loop of one trial (module,
autograd, torch.optim.SGD) in single precision on one thread. Validation, per image and trial, likewise, the plain loop
in one batch. LE-ODE: 500 Gaussian starts; the step loop is timed on two of them and multiplied up. CPU seconds, so
that other work on the machine does not count; with several threads, wall seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from reprod.config import at_scale
from reprod.le_sde import data, networks, simulate, trials
from reprod.le_sde.config import CifarDynamics, GeomnistDynamics
from reprod.training import stream


def plain_loop(examples: trials.Examples, start: np.ndarray, classes: int, order: np.ndarray, lr: float) -> np.ndarray:
    """One trial as torch users write it; its logits before each update."""
    net = networks.LeNet(classes, examples.x_train.shape[1]).load_flat(start)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    x, y, logits = torch.from_numpy(examples.x_train), torch.from_numpy(examples.y_train), []
    for i in order:
        optimizer.zero_grad()
        out = net(x[i : i + 1])
        logits.append(out[0].detach().numpy())
        functional.cross_entropy(out, y[i : i + 1]).backward()
        optimizer.step()
    return np.array(logits)


def seconds(function: Callable[[], object], clock: Callable[[], float], repeats: int = 3) -> float:
    def once() -> float:
        begin = clock()
        function()
        return clock() - begin

    return min(once() for _ in range(repeats))


def training(name: str, config: GeomnistDynamics | CifarDynamics, threads: int, clock: Callable[[], float]) -> None:
    examples, steps, count = data.load(config).examples, 200, 100
    ensemble = trials.build(
        examples, classes=3, trials=count, iterations=4 * steps, lr=config.learning_rate, seed=0, threads=threads
    )
    start = ensemble.weights[0].copy()
    ensemble.train(0, steps)
    ensemble.evaluate()
    done = [steps]

    def further() -> None:
        ensemble.train(done[0], done[0] + steps)
        done[0] += steps

    fast = seconds(further, clock) / (steps * count)
    order = ensemble.samples[0, :steps]
    plain_loop(examples, start, 3, order[:20], config.learning_rate)
    slow = seconds(lambda: plain_loop(examples, start, 3, order, config.learning_rate), clock) / steps
    gap = np.abs(plain_loop(examples, start, 3, order, config.learning_rate) - ensemble.logits[0, :steps]).max()
    times = f"{1e6 * slow:12.1f} us {1e6 * fast:12.1f} us {slow / fast:8.1f}"
    print(f"{name + ' step':<26} {times}   logits differ by {gap:.1e}")
    net, x = networks.LeNet(3, examples.x_train.shape[1]).load_flat(start), torch.from_numpy(examples.x_val)
    with torch.no_grad():
        slow = seconds(lambda: net(x), clock) / len(x)
    fast = seconds(ensemble.evaluate, clock, 1) / (len(x) * count)
    print(f"{name + ' validation image':<26} {1e6 * slow:12.1f} us {1e6 * fast:12.1f} us {slow / fast:8.1f}")


def le_ode(steps: int, clock: Callable[[], float], starts: int = 500, looped: int = 2) -> None:
    t = np.arange(steps)
    alpha, beta = 4e-3 * np.exp(-t / 1500) + 1e-4, -5e-4 * np.cos(t / 700)
    x = stream(0, "starts").standard_normal((starts, 3, 3))

    def fast_all() -> None:
        flow = simulate.build(alpha, beta, 3)
        for row in x:
            flow(row)

    fast = seconds(fast_all, clock)
    slow = seconds(lambda: [simulate.by_steps(row, alpha, beta) for row in x[:looped]], clock, 1) * starts / looped
    wanted, found = simulate.by_steps(x[0], alpha, beta), simulate.build(alpha, beta, 3)(x[0])
    gap = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"LE-ODE, {starts} x {steps:<13} {slow:13.1f} s {fast:13.2f} s {slow / fast:8.0f}   relative gap {gap:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    print(f"{'':<26} {'plain loop':>15} {'ours':>15} {'ratio':>8}")
    training("GeoMNIST", GeomnistDynamics(n_train=100, n_val=100), options.threads, clock)
    cifar = at_scale(CifarDynamics, "paper", dataset="synthetic", n_train=100, n_val=100)
    training("CIFAR-10", cifar, options.threads, clock)
    for steps in (10_000, 30_000):
        le_ode(steps, clock)


if __name__ == "__main__":
    main()
