"""Stochastic gradient Langevin dynamics on a localised, tempered posterior (Welling & Teh 2011; Lau et al. 2023).

On a batch B of rows, with the average loss L_B and the localised potential

    U_B(w) = nbeta L_B(w) + (gamma/2) ||w - w*||^2,

one step is, with eta ~ N(0, I) and no Metropolis test,

    w_{t+1} = w_t - (eps p/2) grad U_B(w_t) + sqrt(eps p) eta,

where p is 1 or a diagonal preconditioner. Minibatches enter through the mean alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reprod.learning_coefficient.noise import Noise
from reprod.learning_coefficient.potentials import Potential


class Sampler(NamedTuple):
    """``state = init(params, centre, noise)``; ``state = update(state, block)``."""

    init: Callable[..., Any]
    update: Callable[..., Any]


def build(
    potential: Potential,
    *,
    step_size: float,
    nbeta: float,
    gamma: float = 1.0,
    preconditioner: Tensor | None = None,
) -> Sampler:
    """SGLD for one potential.

    Args:
        step_size: eps.
        nbeta: inverse temperature, n / ln n by convention.
        gamma: strength of the localisation.
        preconditioner: p, positive, (D,) or (chains, D).
    """
    step = partial(
        update, potential=potential, step_size=step_size, nbeta=nbeta, gamma=gamma, preconditioner=preconditioner
    )
    return Sampler(init, step)


@dataclass
class State:
    """Chains between two steps. `params` is updated in place.

    Attributes:
        params: w_t, (chains, D).
        centre: w*, (D,) or (chains, D).
        noise: one stream per chain.
        loss: L_B(w_{t-1}) of the last step's batch, before the step, (chains,).
        gradient: its gradient, a buffer of the potential.
        change: w_t - w_{t-1}, (chains, D).
    """

    params: Tensor
    centre: Tensor
    noise: Noise
    loss: Tensor
    gradient: Tensor
    change: Tensor


def init(params: Tensor, centre: Tensor, noise: Noise) -> State:
    """Start chains at `params`, (chains, D), which is copied."""
    if len(noise) != len(params):
        raise ValueError(f"{len(params)} chains need as many noise streams, got {len(noise)}")
    start = params.clone()
    return State(start, centre, noise, start.new_full((len(start),), torch.nan), start, torch.zeros_like(start))


def update(
    state: State,
    block: tuple[Any, Tensor] | None = None,
    *,
    potential: Potential,
    step_size: float,
    nbeta: float,
    gamma: float = 1.0,
    preconditioner: Tensor | None = None,
) -> State:
    """One step on a block of rows (None: all data)."""
    state.loss, state.gradient = potential.loss_and_gradient(state.params, block)
    change = state.change
    # The sum is formed beside w and added last: single terms can be too small to survive being added to w in float32.
    if preconditioner is None:
        state.noise.normal(change, step_size**0.5)
        change.add_(state.gradient, alpha=-0.5 * step_size * nbeta)
        if gamma:
            change.add_(state.params, alpha=-0.5 * step_size * gamma).add_(state.centre, alpha=0.5 * step_size * gamma)
    else:
        state.noise.normal(change)
        change.mul_((step_size * preconditioner).sqrt())
        slope = state.gradient * nbeta
        if gamma:
            slope.add_(state.params - state.centre, alpha=gamma)
        change.addcmul_(slope, preconditioner.expand_as(slope), value=-0.5 * step_size)
    state.params.add_(change)
    return state
