"""E4: the estimate of a ReLU network under the rescaling symmetry of its layers (figure 14)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from reprod import training
from reprod.errors import Diverged
from reprod.learning_coefficient.config import RescalingInvariance
from reprod.learning_coefficient.estimate import Chains, Sampling
from reprod.learning_coefficient.models import ReluMlp
from reprod.learning_coefficient.potentials import ModelPotential
from reprod.learning_coefficient.reporting import finite, generated, report_estimate, teacher_data
from reprod.machine import device_of
from reprod.run import Run


def rescaling_invariance(config: RescalingInvariance, run: Run) -> None:
    """Estimates at one function whose layers are scaled differently; all factors and runs are one batch of chains."""
    run.each_seed(_rescaled)


def _rescaled(config: RescalingInvariance, run: Run) -> None:
    (seed,) = config.seeds
    device = device_of(config.device)
    widths = (config.input_width, config.width, config.input_width)
    truth = ReluMlp(widths, seed=seed, duplicated=config.duplicated).to(device)
    x, y = teacher_data(truth, config.n_train, seed, device)
    generated(run, "uniform_inputs", config.n_train, (widths[0],), x)
    potential = ModelPotential(truth, mse_loss, (x, y))
    scales = {"layers.0.weight": 1, "layers.0.bias": 1, "layers.1.weight": -1, "layers.1.bias": 0}
    powers = torch.zeros(potential.dimension, device=device)
    for name, power in scales.items():
        powers[potential.slices[name]] = power
    factors = torch.tensor([10.0**e for e in config.exponents], device=device).repeat_interleave(config.chains)[:, None]
    centres = potential.centre * factors**powers
    settings = Sampling(
        step_size=config.step_size, num_steps=config.sgld_steps, chains=len(factors), gamma=config.gamma,
        batch_size=config.sgld_batch_size, burn_in=0.0, seed=seed, trace="after", trace_loss="full",
        trace_every=config.trace_every, order="sequential", acceptance_every=config.acceptance_every,
    )  # fmt: skip
    preconditioner = factors ** (2 * powers) if config.precondition else None
    chains = Chains(potential, centres, settings, preconditioner=preconditioner)
    state = training.State(**chains.parts())
    for iteration in training.loop(run, chains.num_steps, state, every=config.checkpoint_every):
        chains.step(iteration - 1)
    found = chains.estimate()
    if found.diverged == len(found.per_chain):
        raise Diverged(found.warnings[0])
    report_estimate(run, found, "llc")
    exponents = np.repeat(config.exponents, config.chains)
    chain = np.tile(np.arange(config.chains), len(config.exponents))
    table = pd.DataFrame({"exponent": exponents, "chain": chain, "llc": found.per_chain})
    run.table("estimates", table, about="from all draws of each chain; the first layer is scaled by 10^exponent")
    run.log(config.sgld_steps, {"llc/upper_bound": potential.dimension / 2, "network/parameters": potential.dimension})
    if config.precondition:
        run.log(
            config.sgld_steps, finite({"same_noise/relative_difference": _same_noise(config, potential, powers, seed)})
        )


def _same_noise(config: RescalingInvariance, potential: ModelPotential, powers: Tensor, seed: int) -> float:
    """Relative difference of the estimates at factors 1 and 1000 for the same noise: an exact change of variables."""
    settings = Sampling(
        step_size=config.step_size, num_steps=min(config.sgld_steps, 200), chains=1, gamma=config.gamma,
        batch_size=config.sgld_batch_size, burn_in=0.0, seed=seed, order="sequential",
    )  # fmt: skip
    values = []
    for c in (1.0, 1000.0):
        factor = torch.tensor(c, device=potential.device)
        chains = Chains(
            potential, potential.centre * factor**powers, settings,
            preconditioner=factor ** (2 * powers) if config.precondition else None,
        )  # fmt: skip
        for step in range(chains.num_steps):
            chains.step(step)
        values.append(chains.estimate().llc)
    return abs(values[1] / values[0] - 1)
