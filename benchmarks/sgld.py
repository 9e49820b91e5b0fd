"""Steps per second of SGLD for deep linear networks, side by side in one process.

    OMP_NUM_THREADS=1 python benchmarks/sgld.py                    # both networks, about ten minutes
    OMP_NUM_THREADS=1 python benchmarks/sgld.py --network small --steps 500

Compared, on the same truth, data, temperature, step size and batch size:

* devinterp 1.3.2, the last version whose sampler takes data loaders of plain tensors (`pip install devinterp==1.3.2`;
  left out, and said so, where it is not installed);
* a plain loop: `torch.nn.Linear` layers, one chain, autograd, contiguous slices of a permutation;
* `estimate_llc`, our sampler for any module, chains batched by torch.func;
* `estimate_dln_llc`, minibatches and collapsed, with 1 and 8 chains.

A sampler's processor time is that of `steps` steps of all its chains behind a short warm-up, divided by steps and
chains, and the median over rounds in which the samplers take turns; its estimate is from the last half of a longer
run of its own (`--estimate-steps`, 0 leaves it out), with the standard error between chains.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss

from reprod.learning_coefficient import (
    DlnInputs,
    dln_learning_coefficient,
    estimate_dln_llc,
    estimate_llc,
    true_weights,
)

GAMMA, BATCH, NUM_DATA = 1.0, 500, 100_000
NBETA = NUM_DATA / math.log(NUM_DATA)


@dataclass(frozen=True)
class Network:
    widths: tuple[int, ...]
    step_size: float
    steps: int
    estimate_steps: int


NETWORKS = {
    "small": Network((20, 30, 25, 20, 15), 5e-7, 1000, 4000),
    "medium": Network((200, 250, 200, 150, 200), 1e-7, 60, 400),
}


@dataclass(frozen=True)
class Problem:
    network: Network
    weights: list[np.ndarray]
    inputs: torch.Tensor
    targets: torch.Tensor

    def model(self) -> nn.Sequential:
        pairs = zip(self.network.widths, self.network.widths[1:], strict=False)
        layers = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairs))
        with torch.no_grad():
            for parameter, w in zip(layers.parameters(), self.weights, strict=True):
                parameter.copy_(torch.from_numpy(w).T)
        return layers


# Each sampler: (problem, steps, chains) -> seconds of the sampling, losses (chains, steps).
Result = tuple[float, np.ndarray]


def devinterp(problem: Problem, steps: int, chains: int) -> Result:
    from devinterp.optim.sgld import SGLD
    from devinterp.slt.sampler import estimate_learning_coeff_with_summary
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(problem.inputs, problem.targets), batch_size=BATCH, shuffle=True)

    def evaluate(model: nn.Module, data: list[torch.Tensor]) -> torch.Tensor:
        return mse_loss(model(data[0]), data[1])

    began = time.process_time()
    found = estimate_learning_coeff_with_summary(
        problem.model(), loader, evaluate=evaluate, sampling_method=SGLD,
        optimizer_kwargs={"lr": problem.network.step_size, "localization": GAMMA, "nbeta": NBETA},
        num_chains=chains, num_draws=steps, seed=0, verbose=False, init_loss=1e-12,
    )  # fmt: skip
    return time.process_time() - began, np.asarray(found["loss/trace"]).reshape(chains, steps)


def plain_loop(problem: Problem, steps: int, chains: int) -> Result:
    eps, began, traces = problem.network.step_size, time.process_time(), []
    for chain in range(chains):
        model, losses = problem.model(), []
        centre = [p.detach().clone() for p in model.parameters()]
        generator = torch.Generator().manual_seed(chain)
        for step in range(steps):
            start = step * BATCH % NUM_DATA
            if start == 0:
                order = torch.randperm(NUM_DATA, generator=generator)
            rows = order[start : start + BATCH]
            loss = mse_loss(model(problem.inputs[rows]), problem.targets[rows])
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p, w in zip(model.parameters(), centre, strict=True):
                    assert p.grad is not None
                    drift = NBETA * p.grad + GAMMA * (p - w)
                    p.sub_(0.5 * eps * drift).add_(torch.randn(p.shape, generator=generator), alpha=eps**0.5)
            losses.append(loss.item())
        traces.append(losses)
    return time.process_time() - began, np.array(traces)


def any_module(problem: Problem, steps: int, chains: int) -> Result:
    found = estimate_llc(
        problem.model(), mse_loss, (problem.inputs, problem.targets),
        step_size=problem.network.step_size, num_steps=steps, chains=chains, batch_size=BATCH, gamma=GAMMA,
    )  # fmt: skip
    return found.cpu_seconds, found.loss_trace


def deep_linear(mode: str) -> Callable[[Problem, int, int], Result]:
    def run(problem: Problem, steps: int, chains: int) -> Result:
        found = estimate_dln_llc(
            problem.weights, problem.inputs, mode=mode,
            step_size=problem.network.step_size, num_steps=steps, chains=chains, batch_size=BATCH, gamma=GAMMA,
        )  # fmt: skip
        return found.cpu_seconds, found.loss_trace

    return run


SAMPLERS: list[tuple[str, Callable[[Problem, int, int], Result], int]] = [
    ("devinterp 1.3.2", devinterp, 1),
    ("plain autograd loop", plain_loop, 1),
    ("estimate_llc, minibatch", any_module, 8),
    ("estimate_dln_llc, minibatch", deep_linear("minibatch"), 1),
    ("estimate_dln_llc, minibatch", deep_linear("minibatch"), 8),
    ("estimate_dln_llc, collapsed", deep_linear("collapsed"), 1),
    ("estimate_dln_llc, collapsed", deep_linear("collapsed"), 8),
]


def problem_for(network: Network) -> tuple[Problem, float]:
    weights, rank = true_weights(network.widths, rng=np.random.default_rng(0))
    x = DlnInputs(NUM_DATA, network.widths[0]).all()
    y = x
    for w in weights:
        y = y @ torch.from_numpy(w)
    return Problem(network, weights, x, y), float(dln_learning_coefficient(network.widths, rank).value)


def compare(name: str, steps: int | None, estimate_steps: int | None, rounds: int) -> None:
    network = NETWORKS[name]
    problem, exact = problem_for(network)
    dimension = sum(w.size for w in problem.weights)
    print(
        f"\n{name}: widths {', '.join(map(str, network.widths))}; D = {dimension}; exact learning coefficient {exact:g}"
    )
    print(f"{'sampler':30} {'chains':>6} {'us/step/chain':>14} {'steps/s/chain':>14} {'x':>7}   estimate, last half")
    present = []
    for label, sampler, chains in SAMPLERS:
        try:
            sampler(problem, 20, 1)
            present.append((label, sampler, chains))
        except ImportError:
            print(f"{label:30} not installed: pip install devinterp==1.3.2")
    times = np.empty((rounds, len(present)))
    for times_of_round in times:
        for turn, (_, sampler, chains) in enumerate(present):
            timed = steps or network.steps
            # Whole epochs for ours, so that what an epoch prepares is paid in full and for nothing else.
            timed = timed if sampler in (devinterp, plain_loop) else max(timed, NUM_DATA // BATCH)
            times_of_round[turn] = sampler(problem, timed, chains)[0] / timed / chains
    long = network.estimate_steps if estimate_steps is None else estimate_steps
    for (label, sampler, chains), each in zip(present, np.median(times, axis=0), strict=True):
        ratio = np.median(times[:, 0]) / each
        print(f"{label:30} {chains:6d} {1e6 * each:14.1f} {1 / each:14.0f} {ratio:6.1f}x", end="", flush=True)
        if not long:
            print()
            continue
        _, losses = sampler(problem, long, max(chains, 3))
        llc = NBETA * losses[:, long // 2 :].mean(axis=1)
        print(f"   {llc.mean():.1f} ± {llc.std(ddof=1) / math.sqrt(len(llc)):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=[*NETWORKS, "both"], default="both")
    parser.add_argument("--steps", type=int, help="steps timed")
    parser.add_argument("--estimate-steps", type=int, help="steps of the runs behind the estimates; 0 leaves them out")
    parser.add_argument("--rounds", type=int, default=5, help="times are medians over so many rounds of all samplers")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    warnings.simplefilter("ignore")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} thread, {platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for name in NETWORKS if given.network == "both" else [given.network]:
        compare(name, given.steps, given.estimate_steps, given.rounds)


if __name__ == "__main__":
    main()
