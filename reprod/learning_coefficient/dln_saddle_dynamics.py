"""E3: a deep linear network trained from small weights climbs a staircase (figure 13)."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprod import training
from reprod.errors import Diverged
from reprod.learning_coefficient.config import DlnSaddleDynamics
from reprod.learning_coefficient.dln import DlnPotential, DlnTraining, dln_potential, flat, product, unflat
from reprod.learning_coefficient.estimate import Chains, Sampling
from reprod.learning_coefficient.exact import dln_learning_coefficient, numerical_rank
from reprod.learning_coefficient.reporting import finite, generated
from reprod.machine import device_of
from reprod.run import Run
from reprod.training import stream, torch_stream


def dln_saddle_dynamics(config: DlnSaddleDynamics, run: Run) -> None:
    """Train a deep linear network from small weights and estimate the learning coefficient along the way."""
    run.each_seed(_saddle_to_saddle)


def _saddle_to_saddle(config: DlnSaddleDynamics, run: Run) -> None:
    (seed,) = config.seeds
    device, d = device_of(config.device), config.in_out_dim
    widths = (d, *[config.width] * config.hidden_layers, d)
    teacher = 10.0 * torch.diag(torch.arange(1.0, d + 1))
    x = torch.randn(config.n_train, d, generator=torch_stream(seed, "data")).to(device)
    generated(run, "gaussian_inputs", config.n_train, (d,), x)
    potential = dln_potential(widths, teacher, x)
    rng, deviation = stream(seed, "init"), config.width ** (-config.initialisation_exponent / 2)
    start = [deviation * rng.standard_normal(shape) for shape in pairwise(widths)]
    trained = DlnTraining(
        potential, flat(start)[None], optimizer=config.optimizer, learning_rate=config.learning_rate,
        momentum=config.momentum, batch_size=config.training_batch_size, seed=seed,
    )  # fmt: skip

    period = config.eval_every
    rows = -(-config.iterations // period)
    # Parameters wait until there are enough of them to sample at all in one batch of chains.
    together = max(1, min(100, rows, 4_000_000 // (potential.dimension * config.chains)))
    waiting = torch.zeros(together, potential.dimension, device=device)
    settings = _saddle_settings(config)
    steps = Chains(potential, trained.params[0], settings).num_steps
    table = {name: np.full(rows, np.nan) for name in ("train_loss", "llc", "rank", "exact", "multiplicity")}
    traces = np.full((rows, steps), np.nan, dtype=np.float32)
    state = training.State(**trained.parts(), waiting=waiting, traces=traces, **table)

    for iteration in training.loop(
        run, config.iterations, state, every=config.checkpoint_every, healthy=trained.healthy
    ):  # fmt: skip
        loss = trained.step(iteration - 1)
        row, behind = divmod(iteration - 1, period)
        if behind:
            continue
        if not trained.healthy():
            raise Diverged(
                f"the training left the finite numbers before iteration {iteration}; lower learning_rate (now"
                f" {config.learning_rate:g})"
            )
        waiting[row % together] = trained.params[0]
        table["train_loss"][row] = float(loss[0])
        p = product(unflat(trained.params[0].double(), widths)).cpu().numpy()
        # The numerical rank of single precision, as in the paper: it is full all along.
        table["rank"][row] = numerical_rank(p, d * float(np.finfo(np.float32).eps))
        if row % together == together - 1 or row == rows - 1:
            first = row - row % together
            centres = waiting[: row - first + 1]
            table["llc"][first : row + 1], traces[first : row + 1] = _at_own_outputs(
                config, potential, centres, int(stream(seed, f"estimate/{first}").integers(2**31))
            )
            if not np.isfinite(table["llc"][: row + 1]).any():
                raise Diverged(
                    f"every chain of SGLD diverged; lower step_size (now {config.step_size:g}), or learning_rate"
                )
            for i in range(first, row + 1):
                at = i * period + 1
                run.log(at, finite({"train/loss": table["train_loss"][i], "llc/estimate": table["llc"][i]}))
    for i, rank in enumerate(table["rank"]):
        value, table["multiplicity"][i] = dln_learning_coefficient(widths, int(rank))
        table["exact"][i] = float(value)
    if lost := int(np.isnan(table["llc"]).sum()):
        run.note("llc.warnings", f"{lost} of {rows} estimates are missing: all their chains of SGLD diverged")
        warnings.warn(f"{run.config.title()}: {lost} of {rows} estimates are missing: SGLD diverged", stacklevel=2)
    curve = pd.DataFrame({"iteration": 1 + period * np.arange(rows), **table})
    about = "loss of the minibatch before its step, estimate behind it; numerical rank of the product and its theory"
    run.table("curve", curve, about=about)
    about = "SGLD losses against the student's own outputs, a row for each of the table `curve`"
    run.array("loss_trace", traces, axes=("row", "draw"), about=about)
    run.log(config.iterations, {"network/parameters": potential.dimension, "llc/exact": float(table["exact"][-1])})


def _saddle_settings(config: DlnSaddleDynamics, chains: int = 1, seed: int = 0) -> Sampling:
    return Sampling(
        step_size=config.step_size, num_steps=config.sgld_steps, chains=chains, gamma=config.gamma,
        batch_size=None if config.sampler == "collapsed" else config.sgld_batch_size, burn_in=0.0, seed=seed,
        trace=config.trace, whole_epochs=config.whole_epochs,
    )  # fmt: skip


def _at_own_outputs(
    config: DlnSaddleDynamics, potential: DlnPotential, centres: Tensor, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Estimates at several parameters at once, each against its own outputs, so that its loss is zero: (estimates, from
    the chains that did not diverge; traces averaged over the chains of each)."""
    params = centres.repeat_interleave(config.chains, dim=0)
    own = DlnPotential(
        potential.widths, product(unflat(params.double(), potential.widths)), potential.moment,
        num_data=potential.num_data, rows=potential.rows, device=potential.device,
    )  # fmt: skip
    chains = Chains(own, params, _saddle_settings(config, len(params), seed))
    for step in range(chains.num_steps):
        chains.step(step)
    found = chains.estimate()
    each = (len(centres), config.chains)
    per_chain = found.per_chain.reshape(each)
    good = np.isfinite(per_chain)
    total = np.where(good, per_chain, 0.0).sum(axis=1)
    estimates = np.divide(total, good.sum(axis=1), out=np.full(len(centres), np.nan), where=good.any(axis=1))
    return estimates, found.loss_trace.reshape(*each, -1).mean(axis=1)
