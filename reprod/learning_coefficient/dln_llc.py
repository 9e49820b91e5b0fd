"""E1: estimated against exact learning coefficients of deep linear networks (figures 1 to 12)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprod import training
from reprod.errors import Diverged
from reprod.learning_coefficient.config import DlnLlc
from reprod.learning_coefficient.dln import (
    DlnInputs,
    DlnTraining,
    dln_potential,
    flat,
    product,
    true_weights,
    truncated_normal_weights,
)
from reprod.learning_coefficient.estimate import Chains, Sampling
from reprod.learning_coefficient.exact import (
    dln_dimension,
    dln_functional_rank,
    dln_hessian_trace,
    dln_learning_coefficient,
)
from reprod.learning_coefficient.reporting import finite, generated, report_estimate
from reprod.learning_coefficient.sizes import SIZE_CLASSES, sample_widths
from reprod.machine import device_of
from reprod.run import Run
from reprod.training import stream

TRAINING_LOSS_EVERY = 50


def dln_llc(config: DlnLlc, run: Run) -> None:
    """Estimate the learning coefficient of one random deep linear network per seed, beside the exact value."""
    run.each_seed(_one_network)


def _one_network(config: DlnLlc, run: Run) -> None:
    (seed,) = config.seeds
    size = SIZE_CLASSES[config.size_class]
    widths = config.widths or sample_widths(config.size_class, seed)
    weights, rank = true_weights(
        widths, config.truth, rng=stream(seed, "truth"), reduce_probability=config.reduce_probability,
        singular_mean=config.singular_mean, singular_std=config.singular_std,
    )  # fmt: skip
    exact = dln_learning_coefficient(widths, rank)
    device = device_of(config.device)
    inputs = DlnInputs(config.n_train or size.n_train, widths[0], seed, config.input_distribution, str(device))
    # The collapsed sampler needs no rows, but training, if asked for, is on minibatches.
    mode = "minibatch" if config.train else config.sampler
    target = product([torch.from_numpy(w).double() for w in weights])
    if not bool(torch.isfinite(target.float()).all()):
        raise Diverged("the product of the true layers is not finite; lower singular_mean or singular_std")
    potential = dln_potential(widths, target, inputs, mode=mode)
    generated(run, "dln_inputs", inputs.num_data, (widths[0],), potential.moment)

    groups = 2 if config.train else 1
    chains = Chains(
        potential,
        flat(weights),
        Sampling(
            step_size=config.step_size or size.step_size, num_steps=config.sgld_steps or size.sgld_steps,
            chains=groups * config.chains, gamma=config.gamma, nbeta=config.nbeta,
            batch_size=None if config.sampler == "collapsed" else config.sgld_batch_size, burn_in=config.burn_in,
            seed=seed, trace=config.trace, acceptance_every=config.acceptance_every,
        ),
    )  # fmt: skip
    iterations = config.iterations if config.train else 0
    start = flat(truncated_normal_weights(widths, stream(seed, "init")))[None]
    trained = DlnTraining(
        potential, start, optimizer=config.optimizer, learning_rate=config.learning_rate, momentum=config.momentum,
        batch_size=min(config.training_batch_size, inputs.num_data), seed=seed,
    )  # fmt: skip
    losses = torch.full((-(-iterations // TRAINING_LOSS_EVERY),), torch.nan, device=device)
    state = training.State(**chains.parts(), **trained.parts(), training_losses=losses)
    moved = False
    for iteration in training.loop(
        run, iterations + chains.num_steps, state, every=config.checkpoint_every, healthy=trained.healthy
    ):
        if iteration <= iterations:
            loss = trained.step(iteration - 1)
            if iteration == iterations and not trained.healthy():
                raise Diverged(
                    f"the training left the finite numbers within {iterations} iterations; lower learning_rate"
                    f" (now {config.learning_rate:g}), or leave the training out with train=false"
                )
            if (iteration - 1) % TRAINING_LOSS_EVERY == 0:
                losses[(iteration - 1) // TRAINING_LOSS_EVERY] = loss[0]
            continue
        if config.train and not moved:
            _move_to_trained(chains, flat(weights).to(device), trained.params[0], first=iteration == iterations + 1)
            moved = True
        chains.step(iteration - iterations - 1)
        if chains.dead:
            break

    found = chains.estimate(slice(0, config.chains))
    facts = {
        "llc/exact": float(exact.value), "llc/multiplicity": exact.multiplicity, "network/rank": rank,
        "network/parameters": dln_dimension(widths), "network/layers": len(widths) - 1,
    }  # fmt: skip
    if config.diagnostics:
        some = DlnInputs(100, widths[0], seed, config.input_distribution, name="diagnostics/inputs").all().numpy()
        facts |= {
            "truth/functional_rank": dln_functional_rank(weights, 1e-5),
            "truth/hessian_trace": dln_hessian_trace(weights, some),
        }
    run.log(0, facts)
    layers = pd.DataFrame(
        {"layer": k + 1, "inputs": w.shape[0], "outputs": w.shape[1], "singular_value": value}
        for k, w in enumerate(weights)
        for value in np.linalg.svd(w, compute_uv=False)
    )
    run.table("layers", layers, about="the layers of the truth, one row per singular value")
    report_estimate(run, found, "llc")
    if exact.value:
        run.log(chains.num_steps, finite({"llc/relative_error": 1 - found.llc / float(exact.value)}))
    if config.train:
        recorded = 1 + TRAINING_LOSS_EVERY * np.arange(len(losses))
        curve = pd.DataFrame({"iteration": recorded, "train_loss": losses.cpu().numpy()})
        run.table("training", curve, about="loss of the minibatch of an iteration, before its step")
        other = chains.estimate(slice(config.chains, None))
        report_estimate(run, other, "trained", trace_name="trained_loss_trace")
        run.log(chains.num_steps, finite({"trained/loss": other.initial_loss}))


def _move_to_trained(chains: Chains, truth: Tensor, trained: Tensor, *, first: bool) -> None:
    """The second half of the chains starts at the trained parameter."""
    each = len(chains.state.params) // 2
    centre = torch.cat([truth.expand(each, -1), trained.expand(each, -1)])
    if first:
        chains.state.params.copy_(centre)
    chains.state.centre = centre
    with np.errstate(invalid="ignore"):
        chains.initial_losses = chains.potential.loss(centre).double().cpu().numpy()
