"""Estimating the local learning coefficient of a model at its current parameters (Lau et al. 2023).

    estimate = estimate_llc(model, torch.nn.functional.mse_loss, (inputs, targets), step_size=1e-5, num_steps=2000)
    print(estimate)                    # LLC 43.1 ± 0.6 (4 of 4 chains, sgld, R-hat 1.01), and warnings
    estimate.loss_trace                # (chains, steps)

With L_n the average loss over n examples and w* the parameters of `model`,

    LLC = nbeta ( mean_t L(w_t) - L_n(w*) ),    w_t ~ exp( -nbeta L_n(w) - (gamma/2) ||w - w*||^2 ),   nbeta = n / ln n,

where the mean runs over the draws behind the burn-in of every chain that did not diverge.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprod.learning_coefficient import mala, sgld
from reprod.learning_coefficient.batches import Batches
from reprod.learning_coefficient.diagnostics import drift, first_divergence, split_r_hat, standard_error
from reprod.learning_coefficient.noise import Noise
from reprod.learning_coefficient.potentials import ModelPotential, Potential

SAMPLERS = {"sgld": sgld.build, "mala": mala.build}
TRACES = ("before", "after")
TRACE_LOSSES = ("batch", "full")
RUNAWAY = 1000  # a chain whose energy is this many times D, which holds it near D/2 where it is stable, has diverged
FEW_DRAWS = 32  # fewer draws tell nothing about a drift
LARGEST_R_HAT = 1.1  # Gelman et al., Bayesian Data Analysis, 3rd ed., 11.5
CHECK_EVERY = 200  # steps between two looks at whether any chain is still finite: each look waits for the device


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to sample. The defaults follow the paper; the last block holds its variants (spec 1.2).

    Attributes:
        sampler: "sgld" (minibatches) or "mala" (all data, exact).
        step_size: eps.
        num_steps: steps of every chain, burn-in included.
        chains: independent chains, batched.
        gamma: strength of the localisation around w*.
        nbeta: inverse temperature; None is n / ln n with n the size of the data set, never of a batch.
        batch_size: rows per step; None is all data.
        burn_in: proportion of the draws that the estimate drops: 0.9 keeps the last tenth, as the published figures do.
        seed: of all random streams; the same seed gives the same draws.
        trace: "before" records the loss at w_t on the batch of step t, before the step, which costs nothing; "after"
            records it at w_{t+1} on the same batch, as the published data did, for one more evaluation.
        trace_loss: "batch", or "full" for the loss on all data.
        trace_every: steps between two draws of the trace.
        order: of the batches: "shuffled" every epoch, "fixed" permutation, or "sequential".
        whole_epochs: round `num_steps` up to whole epochs, as the published data did (100 -> 156 in the saddle runs).
        acceptance_every: steps between two records of the Metropolis acceptance probability; 0 is never.
    """

    sampler: str = "sgld"
    step_size: float = 1e-5
    num_steps: int = 5000
    chains: int = 4
    gamma: float = 1.0
    nbeta: float | None = None
    batch_size: int | None = 500
    burn_in: float = 0.9
    seed: int = 0
    trace: str = "before"
    trace_loss: str = "batch"
    trace_every: int = 1
    order: str = "shuffled"
    whole_epochs: bool = False
    acceptance_every: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("sampler", SAMPLERS), ("trace", TRACES), ("trace_loss", TRACE_LOSSES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name in ("num_steps", "chains", "trace_every", "batch_size", "acceptance_every", "seed"):
            value = getattr(self, name)
            if name == "batch_size" and value is None:
                continue
            least = 0 if name in ("acceptance_every", "seed") else 1
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} must be a whole number, at least {least}, got {value}")
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise ValueError(f"step_size must be a positive number, got {self.step_size}")
        if not (self.gamma >= 0 and math.isfinite(self.gamma)):
            raise ValueError(f"gamma must be zero or a positive number, got {self.gamma}")
        if self.step_size * self.gamma >= 4:
            product = self.step_size * self.gamma
            raise ValueError(
                f"step_size * gamma = {product:g} is unstable whatever the loss (it must stay below 4); lower either"
            )
        if self.nbeta is not None and not 0 < self.nbeta <= 1e30:
            raise ValueError(f"nbeta must be a positive number (1e30 at most) or None, got {self.nbeta}")
        if not 0 <= self.burn_in < 1:
            raise ValueError(f"burn_in is a proportion of the draws, from 0 to below 1, got {self.burn_in}")
        if self.trace_every > self.num_steps:
            raise ValueError(f"trace_every={self.trace_every} leaves no draw in {self.num_steps} steps")

    def for_data(self, num_data: int) -> tuple[float, Batches | None]:
        """nbeta and the batches for a data set of this size."""
        if self.nbeta is None and num_data < 2:
            raise ValueError("nbeta = n / ln n needs at least 2 examples; give nbeta")
        nbeta = num_data / math.log(num_data) if self.nbeta is None else self.nbeta
        if self.batch_size is None or (self.sampler == "mala" and self.batch_size == num_data):
            return nbeta, None
        if self.sampler == "mala":
            raise ValueError(f"mala needs all {num_data} examples at every step; give batch_size=None, or use sgld")
        return nbeta, Batches(num_data, self.batch_size, self.seed, self.order)


@dataclass(frozen=True)
class LlcEstimate:
    """An estimate with all that is needed to judge it.

    Attributes:
        llc: the estimate; NaN if every chain diverged.
        standard_error: of `llc`, between chains (from batch means within the chain if there is only one).
        per_chain: the estimate of each chain, NaN where it diverged, (chains,).
        loss_trace: recorded losses, (chains, draws); NaN behind an early stop.
        initial_losses: L_n(w*) on all data, (chains,): one number unless the chains sit at several parameters.
        nbeta, dimension: inverse temperature and number of sampled parameters D.
        diverged_at: draw at which each chain left the finite numbers, -1 where it did not, (chains,).
        r_hat: split R-hat of the kept draws.
        acceptance: Metropolis acceptance probabilities, (chains, records); empty if not recorded.
        acceptance_steps: the step of each record.
        warnings: reasons not to trust the estimate, as sentences.
        seconds, cpu_seconds: wall and processor time of the sampling; on a shared machine only the second says much.
        settings: how it was sampled.
        params: where the chains ended, (chains, D).
    """

    llc: float
    standard_error: float
    per_chain: np.ndarray
    loss_trace: np.ndarray
    initial_losses: np.ndarray
    nbeta: float
    dimension: int
    diverged_at: np.ndarray
    r_hat: float
    acceptance: np.ndarray
    acceptance_steps: np.ndarray
    warnings: tuple[str, ...]
    seconds: float
    cpu_seconds: float
    settings: Sampling
    params: Tensor = field(repr=False)

    @property
    def diverged(self) -> int:
        """How many chains diverged."""
        return int((self.diverged_at >= 0).sum())

    @property
    def initial_loss(self) -> float:
        """L_n(w*), averaged over the chains."""
        return float(self.initial_losses.mean())

    @property
    def llc_trace(self) -> np.ndarray:
        """Every draw as an LLC, ``nbeta (L_t - L_n(w*))``, (chains, draws)."""
        return self.nbeta * (self.loss_trace.astype(np.float64) - self.initial_losses[:, None])

    def with_burn_in(self, burn_in: float) -> float:
        """The estimate with another burn-in, over the chains that did not diverge."""
        kept = self.llc_trace[self.diverged_at < 0, kept_from(self.loss_trace.shape[1], burn_in) :]
        return float(kept.mean()) if kept.size else math.nan

    def __str__(self) -> str:
        chains = f"{len(self.per_chain) - self.diverged} of {len(self.per_chain)} chains"
        judged = f"{chains}, {self.settings.sampler}, R-hat {self.r_hat:.3f}"
        head = f"LLC {self.llc:.4g} ± {self.standard_error:.2g} ({judged})"
        return "\n".join([head, *(f"warning: {w}" for w in self.warnings)])


def estimate_llc(
    model: nn.Module,
    loss: Callable[..., Tensor],
    data: Sequence[Tensor] | torch.utils.data.Dataset,
    *,
    preconditioner: dict[str, float | Tensor] | None = None,
    batch_chains: bool = True,
    rows_at_once: int = 4096,
    **sampling: Any,
) -> LlcEstimate:
    """Local learning coefficient of any module at its current parameters.

    The module is copied and put into eval mode (BatchNorm frozen, dropout off); all parameters with `requires_grad` are
    sampled. The prior is centred on them.

    Args:
        model: w*. It should be at (or near) a minimum of the loss: elsewhere the estimate may be negative.
        loss: ``loss(output, target)``, the *mean* over a batch. Constant factors do not change the LLC.
        data: ``(inputs, targets)`` as tensors, or a map-style data set of such pairs, which is read into memory. The
            model gets the first tensor, the loss the model's output and the others.
        preconditioner: positive factor of eps for named parameters, a number or a tensor of the parameter's shape;
            1 for the others.
        batch_chains: see `ModelPotential`; False for modules that `torch.func.vmap` cannot follow.
        rows_at_once: rows per evaluation of the full-data loss.
        **sampling: `Sampling`: sampler, step_size, num_steps, chains, gamma, nbeta, batch_size, burn_in, seed, ...

    Returns:
        The estimate with its diagnostics. Diverged chains are reported and left out; they are never averaged in.

    Raises:
        ValueError: settings that cannot work; a model without parameters, in half precision, or that draws random
            numbers in eval mode; data that are no tensors, or smaller than a batch; a loss that is no mean over the
            batch, or not finite at w*.
    """
    settings = Sampling(**sampling)
    potential = ModelPotential(
        model, loss, _in_memory(data), batch_chains=batch_chains and settings.chains > 1, rows_at_once=rows_at_once
    )
    factors = None
    if preconditioner is not None:
        factors = torch.ones_like(potential.centre)
        for name, factor in preconditioner.items():
            if name not in potential.slices:
                raise ValueError(f"preconditioner names {name!r}, but the parameters are {', '.join(potential.slices)}")
            given, place = torch.as_tensor(factor, dtype=factors.dtype), potential.slices[name]
            if given.numel() != 1 and given.shape != potential.shapes[name]:
                raise ValueError(
                    f"the preconditioner of {name!r} has shape {tuple(given.shape)}, the parameter"
                    f" {tuple(potential.shapes[name])}"
                )
            factors[place] = given.reshape(-1).to(factors.device)
    return sample(potential, potential.centre, settings, preconditioner=factors)


def sample(
    potential: Potential,
    centre: Tensor,
    settings: Sampling,
    *,
    preconditioner: Tensor | None = None,
) -> LlcEstimate:
    """Run the chains on any potential: the engine behind `estimate_llc` and `estimate_dln_llc`.

    Args:
        centre: w*, (D,), or (chains, D) to estimate at several parameters at once; the chains start there.
        preconditioner: p, positive, (D,) or (chains, D).
    """
    chains = Chains(potential, centre, settings, preconditioner=preconditioner)
    for step in range(chains.num_steps):
        chains.step(step)
        if chains.dead:
            break
    found = chains.estimate()
    for sentence in found.warnings:
        warnings.warn(sentence, stacklevel=3)
    return found


class Chains:
    """The chains of one estimate, step by step, for callers with a loop of their own (progress, checkpoints).

        chains = Chains(potential, centre, settings)
        for step in range(chains.num_steps):
            chains.step(step)
        chains.estimate()

    Losses stay on the device; nothing waits for it but a look at finiteness every `CHECK_EVERY` steps.

    Args:
        potential, centre, settings, preconditioner: as for `sample`.
    """

    def __init__(
        self, potential: Potential, centre: Tensor, settings: Sampling, *, preconditioner: Tensor | None = None
    ):
        if preconditioner is not None and not bool(((preconditioner > 0) & torch.isfinite(preconditioner)).all()):
            raise ValueError("the preconditioner must be positive and finite")
        self.potential, self.settings = potential, settings
        self.nbeta, self.batches = settings.for_data(potential.num_data)
        count, device = settings.chains, potential.device
        self.kernel = SAMPLERS[settings.sampler](
            potential, step_size=settings.step_size, nbeta=self.nbeta, gamma=settings.gamma,
            preconditioner=preconditioner,
        )  # fmt: skip
        self.scale: float | Tensor = settings.step_size
        if preconditioner is not None:
            self.scale = settings.step_size * preconditioner
        self.num_steps = settings.num_steps
        self.turns: tuple[Tensor, ...] = ()
        if self.batches is not None:
            if settings.whole_epochs:
                self.num_steps = -(-settings.num_steps // self.batches.per_epoch) * self.batches.per_epoch
            self.turns = self.batches.turns(count).to(device).unbind(0)
        self.noise = Noise(settings.seed, count, device)
        options: dict[str, Any] = {"device": device, "dtype": potential.dtype}
        self.losses = torch.full((self.num_steps // settings.trace_every, count), torch.nan, **options)
        every = settings.acceptance_every
        self.record_steps = np.arange(0, self.num_steps, every) if every else np.empty(0, dtype=np.int64)
        self.records = torch.full((len(self.record_steps), count), torch.nan, **options)
        self.dead = False
        self.clock = {"seconds": 0.0, "cpu_seconds": 0.0}
        self.epoch: Any = None
        self.start_at(centre)

    def start_at(self, centre: Tensor) -> None:
        """Put all chains, and the prior, at w*: (D,), or (chains, D)."""
        count = self.settings.chains
        centre = centre.to(self.potential.device, self.potential.dtype)
        if centre.ndim == 2 and len(centre) != count:
            raise ValueError(f"{len(centre)} centres for {count} chains")
        initial = self.potential.loss(centre if centre.ndim == 2 else centre[None])
        if not bool(torch.isfinite(initial).all()):
            raise ValueError("the loss at the given parameters is not finite")
        self.initial_losses = np.broadcast_to(initial.double().cpu().numpy(), (count,))
        self.state = self.kernel.init(centre.expand(count, -1), centre, self.noise)

    def parts(self) -> dict[str, Any]:
        """All that the next step depends on, for a checkpoint (`reprod.training.State`)."""
        return {
            "params": self.state.params, "losses": self.losses, "acceptance": self.records, "clock": self.clock,
            "noise": self.noise,
        }  # fmt: skip

    def step(self, number: int) -> None:
        """Step `number`, from 0, of every chain."""
        began, cpu_began = time.perf_counter(), time.process_time()
        settings, batches, is_mala = self.settings, self.batches, self.settings.sampler == "mala"
        block = None
        if batches is not None:
            turn = number % batches.per_epoch
            if self.epoch is None or (turn == 0 and settings.order == "shuffled"):
                self.epoch = self.potential.epoch(batches.epoch(number // batches.per_epoch))
            block = (self.epoch, self.turns[turn])
        row, left = divmod(number, settings.trace_every)
        wanted = left == settings.trace_every - 1
        full, after = settings.trace_loss == "full" and not is_mala, settings.trace == "after"
        if wanted and full and not after:
            self.losses[row] = self.potential.loss(self.state.params)
        state = self.state = self.kernel.update(self.state, block)
        if settings.acceptance_every and number % settings.acceptance_every == 0:
            self.records[number // settings.acceptance_every] = state.acceptance if is_mala else self._acceptance(block)
        if wanted and after:
            loss = state.next_loss if is_mala else self.potential.loss(state.params, None if full else block)
            self.losses[row] = loss
        elif wanted and not full:
            self.losses[row] = state.loss
        if number % CHECK_EVERY == CHECK_EVERY - 1:
            self.dead = not bool(torch.isfinite(state.loss).any())
        self.clock["seconds"] += time.perf_counter() - began
        self.clock["cpu_seconds"] += time.process_time() - cpu_began

    def _acceptance(self, block: Any) -> Tensor:
        """Metropolis acceptance probability of the SGLD step just made, with U of its batch at both ends."""
        state, gamma = self.state, self.settings.gamma

        def localised(loss: Tensor, gradient: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
            away = params - state.centre
            return self.nbeta * loss + 0.5 * gamma * away.square().sum(-1), self.nbeta * gradient + gamma * away

        energy, gradient = localised(state.loss, state.gradient, state.params - state.change)
        new_energy, new_gradient = localised(*self.potential.loss_and_gradient(state.params, block), state.params)
        ratio = mala.log_acceptance(state.change, energy, gradient, new_energy, new_gradient, self.scale)
        return ratio.clamp(max=0.0).exp()

    def estimate(self, which: slice = slice(None)) -> LlcEstimate:
        """The estimate of these chains (all of them, unless groups of chains sit at different parameters)."""
        return summarise(
            self.losses.T[which].contiguous().cpu().numpy(), self.initial_losses[which], self.nbeta, self.settings,
            dimension=self.potential.dimension,
            acceptance=(self.records.T[which].float().cpu().numpy(), self.record_steps),
            seconds=self.clock["seconds"], cpu_seconds=self.clock["cpu_seconds"], params=self.state.params[which],
        )  # fmt: skip


def kept_from(draws: int, burn_in: float) -> int:
    """Index of the first draw behind the burn-in; at least one is kept."""
    return min(math.floor(draws * burn_in + 1e-9), draws - 1)


def summarise(
    trace: np.ndarray,
    initial_loss: np.ndarray | float,
    nbeta: float,
    settings: Sampling,
    *,
    dimension: int,
    acceptance: tuple[np.ndarray, np.ndarray],
    seconds: float,
    cpu_seconds: float,
    params: Tensor,
) -> LlcEstimate:
    """Losses to an estimate. `initial_loss` is a number, or one per chain where chains sit at several parameters."""
    baseline = np.broadcast_to(np.asarray(initial_loss, dtype=np.float64), (len(trace),))
    energy = nbeta * (trace.astype(np.float64) - baseline[:, None])
    kept = energy[:, kept_from(trace.shape[1], settings.burn_in) :]
    diverged_at = first_divergence(energy, kept, RUNAWAY * dimension)
    good = diverged_at < 0
    per_chain = np.where(good, np.where(good[:, None], kept, 0.0).mean(axis=1), np.nan)
    llc = float(per_chain[good].mean()) if good.any() else math.nan
    error = standard_error(kept[good]) if good.any() else math.nan
    found = []
    if not good.all():
        first = int(diverged_at[~good].min()) * settings.trace_every
        found.append(
            f"{(~good).sum()} of {len(good)} chains diverged, the first at step {first}, and are left out"
            + (", which biases the estimate" if good.any() else "")
            + f"; lower step_size (now {settings.step_size:g})"
        )
    if good.any():
        change, errors = drift(energy[good])
        if trace.shape[1] < FEW_DRAWS:
            found.append(f"only {trace.shape[1]} draws: too few to see whether the chain is equilibrated")
        if abs(errors) > 3 and abs(change) > 0.05 * abs(llc):
            found.append(
                f"not equilibrated: the mean moved by {change:+.3g} ({100 * change / llc:+.0f} %) from the third to the"
                f" last quarter of the chain; raise num_steps (now {settings.num_steps}) or step_size"
            )
        if (r_hat := split_r_hat(kept[good])) > LARGEST_R_HAT:
            found.append(
                f"the halves of the chains disagree: R-hat {r_hat:.2f}, above {LARGEST_R_HAT}; raise num_steps (now"
                f" {settings.num_steps}), or chains"
            )
        if settings.sampler == "mala" and acceptance[0].size and acceptance[0][good].mean() < 0.05:
            found.append(
                f"only {100 * acceptance[0][good].mean():.2g} % of the proposals are accepted: the chain hardly moves;"
                f" lower step_size (now {settings.step_size:g})"
            )
        uncertainty = 3 * (0.0 if math.isnan(error) else error)
        rounding = 1e-6 * nbeta * float(np.abs(baseline).max())
        if llc < -max(uncertainty, rounding) and not math.isnan(error):
            found.append("the estimate is negative: the parameters are not at a minimum of the loss")
        elif llc < -rounding:
            found.append(
                "the estimate is negative, though within three standard errors of zero; raise num_steps or chains"
            )
        elif llc > dimension / 2 * 1.1 + uncertainty:
            found.append(
                f"the estimate exceeds D/2 = {dimension / 2:g}, which no learning coefficient does: step_size is too"
                " large, or the parameters are not at a minimum"
            )
    return LlcEstimate(
        llc=llc,
        standard_error=error,
        per_chain=per_chain,
        loss_trace=trace,
        initial_losses=baseline,
        nbeta=nbeta,
        dimension=dimension,
        diverged_at=diverged_at,
        r_hat=split_r_hat(kept[good]),
        acceptance=acceptance[0],
        acceptance_steps=acceptance[1],
        warnings=tuple(found),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        settings=settings,
        params=params,
    )


def _in_memory(data: Sequence[Tensor] | torch.utils.data.Dataset) -> tuple[Tensor, ...]:
    if isinstance(data, torch.utils.data.TensorDataset):
        return data.tensors
    if isinstance(data, torch.utils.data.DataLoader):
        raise ValueError(
            "data is a DataLoader: give its dataset, data=loader.dataset; batches of batch_size rows are drawn here"
        )
    if isinstance(data, torch.utils.data.IterableDataset):
        raise ValueError("data is an iterable data set: n must be known; give (inputs, targets) as tensors")
    if data is None or callable(data):
        raise ValueError(f"data must be (inputs, targets) as tensors, got {data!r}")
    if isinstance(data, Mapping):
        raise ValueError(
            f"data is a dict of {', '.join(map(repr, data))}: give (inputs, targets) as a tuple of tensors"
        )
    if isinstance(data, torch.utils.data.Dataset):
        examples = [data[i] for i in range(len(data))]  # type: ignore[arg-type]
        if not examples:
            raise ValueError("data has no examples")
        if not isinstance(examples[0], (tuple, list)):
            kind = type(examples[0]).__name__
            raise ValueError(f"the examples of data must be pairs (input, target), the first is a {kind}")
        return tuple(torch.stack([torch.as_tensor(e[i]) for e in examples]) for i in range(len(examples[0])))
    if isinstance(data, Tensor):
        raise ValueError("data must be (inputs, targets), got a single tensor")
    return tuple(torch.from_numpy(t) if isinstance(t, np.ndarray) else t for t in data)
