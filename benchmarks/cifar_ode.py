"""An iteration of `cifar_ode` against plain torchdiffeq on the same field: python benchmarks/cifar_ode.py

Both start from the same weights and take the same mini-batches; in turn, so that a machine that slows down slows both.
Prints medians and ratio, and stops if the losses differ by more than 1e-4.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
import torch.nn.functional as F
from torchdiffeq import odeint

from reprod.data import images
from reprod.neural_ode.evaluation import as_input
from reprod.neural_ode.learners import Autograd
from reprod.neural_ode.models import OdeNet
from reprod.neural_ode.solvers import SolverSetting


class Plain(torch.nn.Module):
    """The field as anyone would write it."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, channels, 1), torch.nn.ReLU(),
            torch.nn.Conv2d(channels, channels, 3, padding=1), torch.nn.ReLU(),
            torch.nn.Conv2d(channels, 3, 1),
        )  # fmt: skip
        self.classifier = torch.nn.Linear(3 * 32 * 32, 10)

    def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z)


def plain_iteration(model: Plain, adam: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, solver: dict) -> float:
    adam.zero_grad()
    z = odeint(model, x, torch.tensor([0.0, 1.0]), **solver)[-1]
    loss = F.cross_entropy(model.classifier(z.flatten(1)), y)
    loss.backward()
    adam.step()
    return loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=6)
    given = parser.parse_args()
    found = images.load("cifar10", "train")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
          f"{given.channels} channels, batch {given.batch_size}")  # fmt: skip
    cases = {
        "dopri5, tol 1e-3": (SolverSetting("dopri5", 1e-3), {"method": "dopri5", "rtol": 1e-3, "atol": 1e-3}),
        "euler, 8 steps": (SolverSetting("euler", 1 / 8), {"method": "euler", "options": {"step_size": 1 / 8}}),
    }
    for name, (setting, solver) in cases.items():
        ours = OdeNet(channels=given.channels, solver=setting.name, step_size=1 / 8, tol=1e-3)
        plain = Plain(given.channels)
        plain.load_state_dict(
            dict(zip(plain.state_dict(), (v.clone() for v in ours.state_dict().values()), strict=True))
        )
        learner = Autograd(ours, 1e-3, given.batch_size)
        adam = torch.optim.Adam(plain.parameters(), 1e-3)
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for k in range(given.iterations + 1):
            rows = slice(k * given.batch_size, (k + 1) * given.batch_size)
            x, y = torch.from_numpy(found.pixels[rows]), torch.from_numpy(found.labels[rows])
            began = time.perf_counter()
            theirs = plain_iteration(plain, adam, as_input(x), y, solver)
            middle = time.perf_counter()
            forward = learner.gradient(x[None], y[None], setting)
            learner.update()
            ended = time.perf_counter()
            if abs(float(forward.loss) - theirs) > 1e-4 * (1 + k):
                raise SystemExit(f"the losses differ: {float(forward.loss)} and {theirs}")
            if k:  # the first one warms up
                times["plain"].append(middle - began)
                times["ours"].append(ended - middle)
        a, b = (1e3 * statistics.median(times[which]) for which in ("plain", "ours"))
        ratio = statistics.median(p / o for p, o in zip(times["plain"], times["ours"], strict=True))
        print(f"{name:<18} plain torchdiffeq {a:8.1f} ms   ours {b:8.1f} ms   ratio {ratio:.2f}   loss {theirs:.5f}")


if __name__ == "__main__":
    main()
