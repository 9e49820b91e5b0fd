"""A small experiment with all that the core offers: a random walk with momentum, batched or serial over seeds."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reprod.config import Config, param
from reprod.errors import BadInput, Diverged
from reprod.papers import Experiment, Paper
from reprod.run import Run
from reprod.training import State, loop, stream

INSTALLED = Path(__file__).resolve().parents[1] / "installed"  # on sys.path, the toy paper is an installed plug-in

PAPER = Paper("toys", "Toys, for tests", __name__, {"toy": Experiment(f"{__name__}:Toy", f"{__name__}:walk")})


class Line(torch.nn.Module):
    exportable = True

    def __init__(self, width: int = 2):
        super().__init__()
        self.linear = torch.nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


@dataclass(frozen=True, kw_only=True)
class Toy(Config):
    """A random walk, for tests."""

    experiment = "toy"
    paper = "toys"

    rate: float = param(0.1, above=0, at_most=10, help="step length")
    niter: int = param(60, at_least=1, help="iterations")
    solver: str = param("euler", choices=("euler", "dopri5"), help="a choice")
    step_size: float | None = param(0.5, above=0, help="a step, or none")
    factors: tuple[float, ...] = param((0.5, 1.0), above=0, help="several numbers")
    shuffle: bool = param(True, help="a switch")
    batched: bool = param(True, help="seeds together or one by one")
    diverge_seed: int | None = param(None, help="this seed leaves the finite numbers")
    kill_at: int | None = param(None, identity=False, help="SIGKILL ourselves at this iteration")

    scales = {"small": {"niter": 30}, "smoke": {"niter": 10, "rate": 0.2}}

    def check(self) -> None:
        if self.solver == "euler" and self.step_size is None:
            raise BadInput("solver=euler needs step_size")

    def unused(self) -> set[str]:
        return {"step_size"} if self.solver != "euler" else set()


def walk(config: Toy, run: Run) -> None:
    if config.batched:
        _walk(config, run, run.children())
    else:
        run.each_seed(lambda alone, child: _walk(alone, child, [child]))


def _walk(config: Toy, run: Run, children: list[Run]) -> None:
    seeds = config.seeds
    streams = {str(seed): stream(seed, "noise") for seed in seeds}
    position = np.zeros(len(seeds))
    path = np.zeros((len(seeds), config.niter))
    optimizer_like = {"momentum": torch.zeros(len(seeds))}
    state = State(position=position, path=path, streams=streams, rest=optimizer_like)

    def healthy() -> bool:
        return len(seeds) > 1 or bool(np.isfinite(position).all())

    for k in loop(run, config.niter, state, every=config.checkpoint_every, healthy=healthy):
        noise = np.array([g.normal() for g in streams.values()])
        optimizer_like["momentum"] = 0.9 * optimizer_like["momentum"] + torch.from_numpy(noise)
        position += config.rate * optimizer_like["momentum"].numpy()
        for i, seed in enumerate(seeds):
            if seed == config.diverge_seed and k > config.niter // 2:
                position[i] = np.inf
        path[:, k - 1] = position
        if k % 5 == 0:
            for child, value in zip(children, position, strict=True):
                child.log(k, {"walk/position": float(value)})
        if config.kill_at == k:
            os.kill(os.getpid(), signal.SIGKILL)
    print("sees", os.environ.get("CUDA_VISIBLE_DEVICES", "everything"))
    for child, row in zip(children, path, strict=True):
        if not np.isfinite(row[-1]):
            if len(children) == 1:
                raise Diverged("the walk left the finite numbers")
            child.fail("the walk left the finite numbers")
            continue
        child.array("path", row, axes=("iteration",), unit="1", about="position", exact=True)
        child.dataset("noise", split="train", source="generated", digest="ab" * 32, size=3)
