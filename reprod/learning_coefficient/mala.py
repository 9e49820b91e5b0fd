"""Metropolis-adjusted Langevin algorithm (Roberts & Tweedie 1996) on the full-data localised potential.

    U(w) = nbeta L_n(w) + (gamma/2) ||w - w*||^2
    w'   = w - (eps p/2) grad U(w) + sqrt(eps p) eta,            accepted with probability A(w, w')

It is Hamiltonian Monte Carlo with one leapfrog step of length sqrt(eps). A needs U itself, so a step uses all data;
`log_acceptance` also serves as a diagnostic of SGLD, with U of the same batch at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reprod.learning_coefficient.noise import Noise
from reprod.learning_coefficient.potentials import Potential
from reprod.learning_coefficient.sgld import Sampler


def build(
    potential: Potential,
    *,
    step_size: float,
    nbeta: float,
    gamma: float = 1.0,
    preconditioner: Tensor | None = None,
) -> Sampler:
    """MALA for one potential; the arguments are those of `sgld.build`."""
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
        noise: one stream per chain; it also draws the uniform number of the Metropolis test.
        loss: L_n at the position before the last step, (chains,).
        acceptance: A of the last proposal, (chains,).
        next_loss: L_n(w_t), (chains,); None before the first step.
        next_gradient: grad U(w_t), (chains, D).
    """

    params: Tensor
    centre: Tensor
    noise: Noise
    loss: Tensor
    acceptance: Tensor
    next_loss: Tensor | None = None
    next_gradient: Tensor | None = None


def init(params: Tensor, centre: Tensor, noise: Noise) -> State:
    """Start chains at `params`, (chains, D), which is copied."""
    if len(noise) != len(params):
        raise ValueError(f"{len(params)} chains need as many noise streams, got {len(noise)}")
    start = params.clone()
    return State(start, centre, noise, start.new_full((len(start),), torch.nan), start.new_ones(len(start)))


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
    """One proposal and its Metropolis test. `block` must be None: all data."""
    if block is not None:
        raise ValueError("mala needs the loss on all data; use sgld with minibatches")

    def slope(params: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = potential.loss_and_gradient(params)
        return loss, (gradient * nbeta).add_(params - state.centre, alpha=gamma)

    if state.next_loss is None or state.next_gradient is None:
        state.next_loss, state.next_gradient = slope(state.params)
    loss, gradient = state.next_loss, state.next_gradient
    state.loss = loss
    scale = step_size if preconditioner is None else step_size * preconditioner
    change = torch.empty_like(state.params)
    state.noise.normal(change)
    change.mul_(scale**0.5).sub_(0.5 * scale * gradient)
    proposal = state.params + change
    new_loss, new_gradient = slope(proposal)

    def energy(loss: Tensor, params: Tensor) -> Tensor:
        return nbeta * loss + 0.5 * gamma * (params - state.centre).square().sum(-1)

    before, after = energy(loss, state.params), energy(new_loss, proposal)
    log_ratio = log_acceptance(change, before, gradient, after, new_gradient, scale)
    # A proposal that leaves the finite numbers is a rejection.
    state.acceptance = log_ratio.clamp(max=0.0).exp().nan_to_num(nan=0.0)
    accepted = state.noise.uniform(change) < state.acceptance
    state.params.copy_(torch.where(accepted[:, None], proposal, state.params))
    state.next_loss = torch.where(accepted, new_loss, loss)
    state.next_gradient = torch.where(accepted[:, None], new_gradient, gradient)
    return state


def log_acceptance(
    change: Tensor,
    energy: Tensor,
    gradient: Tensor,
    new_energy: Tensor,
    new_gradient: Tensor,
    scale: float | Tensor,
) -> Tensor:
    """Logarithm of the Metropolis ratio of a Langevin proposal, not yet capped at 0.

    With ``log q(a -> b) = -||b - a + (eps/2) grad U(a)||^2/(2 eps)``, the ratio
    ``log q(w' -> w) - log q(w -> w') + U(w) - U(w')`` is, expanded so that nothing large cancels,

        U(w) - U(w') + (w' - w) . (grad U(w) + grad U(w'))/2 + sum (eps p/8) (grad U(w)^2 - grad U(w')^2).

    Args:
        change: w' - w, (..., D).
        energy, new_energy: U at both ends, (...).
        gradient, new_gradient: grad U at both ends, (..., D).
        scale: eps, or eps p with a preconditioner.
    """
    work = 0.5 * (change * (gradient + new_gradient)).sum(-1)
    curvature = (scale * (gradient.square() - new_gradient.square())).sum(-1) / 8.0
    return energy - new_energy + work + curvature


def acceptance_probability(
    point: Tensor,
    gradient: Tensor,
    energy: Tensor | float,
    new_point: Tensor,
    new_gradient: Tensor,
    new_energy: Tensor | float,
    step_size: float,
) -> Tensor:
    """``A = min(1, exp(log_acceptance))`` of a move between two points whose potential and gradient are known."""
    tensors = [torch.as_tensor(e, dtype=point.dtype, device=point.device) for e in (energy, new_energy)]
    ratio = log_acceptance(new_point - point, tensors[0], gradient, tensors[1], new_gradient, step_size)
    return ratio.clamp(max=0.0).exp()
