"""Training on concentric spheres: the plain way against `reprod.neural_ode.batched`, side by side.

    python benchmarks/sphere_training.py [--threads 1] [--steps 64] [--seeds 5] [--repeats 15]

Plain: one seed, the field as Conv1d layers, torchdiffeq's `odeint` under autograd, torch.optim.Adam. Ours: all seeds at
once. Both train the same networks on the same batches of 128, alternating, one iteration each in turn; the losses of
every iteration are compared. Prints medians and the ratio of the time per seed and iteration.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torchdiffeq import odeint

from reprod.data import spheres
from reprod.neural_ode import batched
from reprod.neural_ode.models import SimpleOdeNet
from reprod.neural_ode.solvers import SolverSetting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=64, help="Euler steps")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    h = 1 / options.steps

    data = spheres.load("concentric_sphere2")
    x_train, y_train = torch.tensor(data.x_train), torch.tensor(data.y_train)
    models = [SimpleOdeNet(step_size=h, generator=torch.Generator().manual_seed(s)) for s in range(options.seeds)]
    kernel = batched.build(models[0], options.seeds)
    state = batched.init(kernel, models)
    plain = models[0]
    optimiser = torch.optim.Adam(plain.parameters(), lr=1e-4)
    times = torch.tensor([0.0, 1.0])
    generator = torch.Generator().manual_seed(0)

    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    worst = 0.0
    for iteration in range(options.repeats + 2):
        index = torch.stack([torch.randperm(2000, generator=generator)[:128] for _ in range(options.seeds)])
        x, y = x_train[index], y_train[index]

        start = time.perf_counter()
        z = odeint(lambda t, z: plain.field(z), x[0], times, method="euler", options={"step_size": h})[-1]
        expected = torch.nn.functional.cross_entropy(plain.classifier(z.flatten(1)), y[0])
        optimiser.zero_grad()
        expected.backward()
        optimiser.step()
        middle = time.perf_counter()
        loss, _ = batched.update(kernel, state, x[:, :, 0], y, SolverSetting("euler", h))
        end = time.perf_counter()

        worst = max(worst, abs(float(loss[0]) - float(expected.detach())))
        if iteration >= 2:  # the first calls allocate
            seconds["plain"].append(middle - start)
            seconds["ours"].append((end - middle) / options.seeds)

    print(f"Euler {options.steps} steps, batch 128, {options.threads} threads, {options.repeats} iterations each")
    medians = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    print(f"plain (one seed)          {medians['plain']:8.2f} ms per seed and iteration")
    print(f"ours ({options.seeds} seeds at once)    {medians['ours']:8.2f} ms per seed and iteration")
    print(f"ratio                     {medians['plain'] / medians['ours']:8.1f}")
    print(f"largest difference of the losses of seed 0: {worst:.1e}")
    if worst > 1e-4:
        raise SystemExit("the losses differ")


if __name__ == "__main__":
    main()
