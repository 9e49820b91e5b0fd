"""Deep linear networks: truths, data, and a potential with hand-written gradients for many chains at once.

The mean squared error of a batch with rows X depends on the data only through ``S = X^T X / m``:

    L_B(w) = tr( (P - P*)^T S (P - P*) ) / n_L,       P = W_1 ... W_L,      dL/dP = (2/n_L) S (P - P*),

so that the m rows can be replaced by n_0 without changing loss or gradient. Two samplers follow, with names of their
own:

* ``minibatch``: S of the step's batch. The same chain as from the rows, to rounding, only cheaper where n_0 < m.
* ``collapsed``: S of all data. Full-gradient Langevin dynamics, *another* sampler: it has no minibatch noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprod import compiled
from reprod.compiled import GAMMA, splitmix64
from reprod.learning_coefficient.batches import Batches
from reprod.learning_coefficient.estimate import LlcEstimate, Sampling, sample
from reprod.learning_coefficient.exact import check_widths, dln_dimension, numerical_rank
from reprod.training import stream

MODES = ("minibatch", "collapsed")
TRUTHS = ("random", "zero", "rand_rank", "rand_rank_sv")
INPUTS = ("uniform", "unit_ball")
OPTIMIZERS = ("sgd", "adam")
BETAS = (0.9, 0.999)  # of Adam
MOMENT_BYTES = 256 * 2**20  # second moments of all blocks of an epoch are kept if they fit into this


# -- truths ---------------------------------------------------------------------------------------------------------


def truncated_normal_weights(widths: Sequence[int], rng: np.random.Generator) -> list[np.ndarray]:
    """Normal numbers truncated to [-2, 2], times 1/sqrt(fan_in), without correction of the variance."""
    weights = []
    for fan_in, fan_out in pairwise(widths):
        values = rng.standard_normal((fan_in, fan_out), dtype=np.float32)
        while (outside := np.abs(values) > 2).any():
            values[outside] = rng.standard_normal(int(outside.sum()), dtype=np.float32)
        weights.append(values / np.float32(np.sqrt(fan_in)))
    return weights


def true_weights(
    widths: Sequence[int],
    method: str = "rand_rank",
    *,
    rng: np.random.Generator,
    reduce_probability: float = 0.5,
    singular_mean: float = 0.0,
    singular_std: float = 5.0,
) -> tuple[list[np.ndarray], int]:
    """A true parameter and the rank of its product.

    Args:
        method: "random", the initialisation as it is; "zero"; "rand_rank" (the paper): each layer alone, with
            `reduce_probability`, keeps a uniform number of its singular values, at least one; "rand_rank_sv": layers
            ``U diag(s) V^T`` with random orthonormal U, V and ``s ~ N(singular_mean, singular_std^2)``.
    """
    widths = check_widths(widths, 0)
    shapes = list(pairwise(widths))
    if method == "zero":
        return [np.zeros(shape, np.float32) for shape in shapes], 0
    if method == "random":
        weights = truncated_normal_weights(widths, rng)
    elif method == "rand_rank":
        weights = []
        for w in truncated_normal_weights(widths, rng):
            if rng.random() < reduce_probability:
                u, s, vt = np.linalg.svd(w.astype(np.float64), full_matrices=False)
                kept = len(s) - int(rng.integers(len(s)))
                w = ((u[:, :kept] * s[:kept]) @ vt[:kept]).astype(np.float32)
            weights.append(w)
    elif method == "rand_rank_sv":
        weights = []
        for a, b in shapes:
            full = min(a, b)
            kept = int(rng.integers(full)) if rng.random() < reduce_probability else full
            u, v = (np.linalg.qr(rng.standard_normal((n, full)))[0][:, :kept] for n in (a, b))
            s = singular_mean + singular_std * rng.standard_normal(kept)
            weights.append(((u * s) @ v.T).astype(np.float32))
    else:
        raise ValueError(f"method={method!r} is not one of {', '.join(TRUTHS)}")
    return weights, product_rank(weights)


def product_rank(weights: Sequence[np.ndarray]) -> int:
    """Rank of the product: generically the smallest rank of a layer, which needs no SVD of an ill-conditioned product.

    Layers are single precision, so their own singular values are judged against 1e-5 of the largest.
    """
    return min(numerical_rank(w, 1e-5) for w in weights)


def flat(weights: Sequence[np.ndarray | Tensor]) -> Tensor:
    """The matrices as one vector of float32, (D,)."""
    return torch.cat([torch.as_tensor(w, dtype=torch.float32).reshape(-1) for w in weights])


def unflat(params: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Views of flat parameters (..., D) as matrices (..., n_{k-1}, n_k)."""
    shapes = list(pairwise(widths))
    pieces = params.split([a * b for a, b in shapes], dim=-1)
    return [piece.unflatten(-1, shape) for piece, shape in zip(pieces, shapes, strict=True)]


def product(weights: Sequence[Tensor]) -> Tensor:
    """``P = W_1 ... W_L``, batched over leading dimensions."""
    result = weights[0]
    for w in weights[1:]:
        result = result @ w
    return result


# -- data -----------------------------------------------------------------------------------------------------------


@compiled.kernel
def _uniform(index, columns, key, out):
    """out[i, j] in [0, 1): 24 bits of the hash of key + index[i] columns + j."""
    for i in range(len(index)):
        first = key + np.uint64(index[i]) * np.uint64(columns)
        for j in range(columns):
            z = splitmix64((first + np.uint64(j)) * GAMMA)
            out[i, j] = np.float32(np.int32(z >> np.uint64(40))) * np.float32(2.0**-24)


@dataclass(frozen=True)
class DlnInputs:
    """Input rows as a function of (seed, row number): any row at any time, on any device, without storing the others.

    Args:
        num_data: n.
        width: n_0.
        distribution: "uniform" on [-10, 10]^{n_0}, second moment (100/3) I, or "unit_ball", second moment I/(n_0 + 2).
        name: of the random stream; other names give other rows.
    """

    num_data: int
    width: int
    seed: int = 0
    distribution: str = "uniform"
    device: str = "cpu"
    name: str = "data/inputs"

    def __post_init__(self) -> None:
        if self.distribution not in INPUTS:
            raise ValueError(f"distribution={self.distribution!r} is not one of {', '.join(INPUTS)}")
        if not all(isinstance(n, Integral) and n >= 1 for n in (self.num_data, self.width)):
            raise ValueError(f"num_data and width must be positive integers, got {self.num_data} and {self.width}")

    @cached_property
    def _key(self) -> np.uint64:
        return np.uint64(stream(self.seed, self.name).integers(2**62))

    def rows(self, index: Tensor) -> Tensor:
        """(...) row numbers -> (..., n_0) float32."""
        if self.distribution == "uniform":
            return self._random(index, self.width).mul_(20.0).sub_(10.0)
        u = self._random(index, 2 * self.width + 1)
        radius, angle = u[..., : self.width], u[..., self.width : -1]
        normal = (-2.0 * torch.log1p(-radius)).sqrt() * torch.cos(2.0 * torch.pi * angle)
        return normal / normal.norm(dim=-1, keepdim=True) * u[..., -1:] ** (1.0 / self.width)

    def all(self) -> Tensor:
        return self.rows(torch.arange(self.num_data, device=self.device))

    def second_moment(self, rows_at_once: int = 65536) -> Tensor:
        """``X^T X / n`` of the sample, (n_0, n_0) float64, without ever holding all rows."""
        total = torch.zeros(self.width, self.width, dtype=torch.float64, device=self.device)
        for start in range(0, self.num_data, rows_at_once):
            x = self.rows(torch.arange(start, min(start + rows_at_once, self.num_data), device=self.device))
            # float32 products of up to 65536 rows are accurate to 1e-6 here; the sum over chunks is kept in float64.
            total += (x.T @ x).double()
        return total / self.num_data

    def _random(self, index: Tensor, columns: int) -> Tensor:
        """Uniform on [0, 1): the SplitMix64 hash of (seed, row, column), (..., columns). Hashed on the CPU, where the
        integers are, and the same bits on every device."""
        out = torch.empty(index.numel(), columns)
        _uniform(index.reshape(-1).cpu().numpy(), columns, self._key, out.numpy())
        return out.view(*index.shape, columns).to(index.device)


# -- the potential --------------------------------------------------------------------------------------------------


class DlnPotential:
    """Mean squared error of a deep linear network against ``y = x P*``, with hand-written gradients.

    Args:
        widths: n_0, ..., n_L.
        target: P*, (n_0, n_L), or one for each chain, (chains, n_0, n_L).
        second_moment: ``X^T X / n`` of all data, (n_0, n_0).
        rows: row numbers -> inputs, (...) -> (..., n_0); needed for minibatches only.
        num_data: n.
        form: "rows" computes with the m rows of a batch, "moments" with its second moment, "auto" what needs fewer
            operations. The result is the same to rounding.
    """

    def __init__(
        self,
        widths: Sequence[int],
        target: Tensor,
        second_moment: Tensor,
        *,
        num_data: int,
        rows: Callable[[Tensor], Tensor] | None = None,
        form: str = "auto",
        device: str | torch.device = "cpu",
    ):
        self.widths = check_widths(widths, 0)
        if form not in ("auto", "rows", "moments"):
            raise ValueError(f"form={form!r} is not one of auto, rows, moments")
        self.device, self.dtype = torch.device(device), torch.float32
        self.target = torch.as_tensor(target).to(self.device, self.dtype)
        self.moment = torch.as_tensor(second_moment).to(self.device, self.dtype)
        ends = (self.widths[0], self.widths[-1])
        if tuple(self.target.shape[-2:]) != ends or tuple(self.moment.shape) != (ends[0], ends[0]):
            raise ValueError(
                f"widths {self.widths} need a target of shape {ends} and a second moment of shape {(ends[0], ends[0])},"
                f" got {tuple(self.target.shape)} and {tuple(self.moment.shape)}"
            )
        self.num_data, self.dimension = num_data, dln_dimension(self.widths)
        self.rows, self.form = rows, form
        self._gradient = torch.empty(0, self.dimension, device=self.device)
        self._graded: list[Tensor] = []

    def epoch(self, rows: Tensor) -> tuple[str, Tensor]:
        """Second moments of all blocks if they fit, else their row numbers."""
        if self.rows is None:
            raise ValueError("only through its second moment is the data known here; sample with batch_size=None")
        rows = rows.to(self.device)
        blocks, m = rows.shape
        if not self.uses_moments(m):
            return "rows", rows
        n0 = self.widths[0]
        if 4 * blocks * n0 * n0 > MOMENT_BYTES:
            return "lazy moments", rows
        moments = torch.empty(blocks, n0, n0, device=self.device)
        for block, x in zip(moments.unbind(0), (self.rows(r) for r in rows.unbind(0)), strict=True):
            torch.mm(x.T, x, out=block)
        return "moments", moments.div_(m)

    def uses_moments(self, batch_size: int) -> bool:
        """Whether a batch of this size is computed with through its second moment."""
        if self.form != "auto":
            return self.form == "moments"
        n0, n1, last = self.widths[0], self.widths[1], self.widths[-1]
        behind = self.dimension - n0 * n1
        by_rows = 6 * batch_size * self.dimension - 2 * batch_size * n0 * n1
        by_moments = 2 * batch_size * n0 * n0 + 6 * n0 * behind + 2 * n0 * n0 * last
        return by_moments < by_rows

    def loss(self, params: Tensor, block: tuple[Any, Tensor] | None = None) -> Tensor:
        weights = unflat(params, self.widths)
        kind, data = self._data(block, len(params))
        if kind == "rows":
            error = data
            for w in weights:
                error = torch.bmm(error, w)
            return (error - data @ self.target).square().mean((1, 2))
        error = weights[0]
        for w in weights[1:]:
            error = torch.bmm(error, w)
        return self._by_moments(error - self.target, data)[0]

    def loss_and_gradient(self, params: Tensor, block: tuple[Any, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        if self._gradient.shape != params.shape:
            self._gradient = torch.empty_like(params)
            self._graded = unflat(self._gradient, self.widths)
        weights, graded = unflat(params, self.widths), self._graded
        kind, data = self._data(block, len(params))
        if kind == "rows":
            before = [data]
            for w in weights:
                before.append(torch.bmm(before[-1], w))
            slope = before.pop().sub_(data @ self.target)
            loss = slope.square().mean((1, 2))
            slope.mul_(2.0 / (slope.shape[1] * slope.shape[2]))
        else:
            before = [data, weights[0]]
            for w in weights[1:]:
                before.append(torch.bmm(before[-1], w))
            loss, slope = self._by_moments(before.pop() - self.target, data)
        for k in range(len(weights) - 1, 0, -1):
            torch.bmm(before[k].mT, slope, out=graded[k])
            slope = torch.bmm(slope, weights[k].mT)
        if kind == "rows":
            torch.bmm(data.mT, slope, out=graded[0])
        else:
            graded[0].copy_(slope)
        return loss, self._gradient

    def _by_moments(self, error: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
        """Loss tr(E^T S E)/n_L of every chain and dL/dP = (2/n_L) S E, for E = P - P*, (chains, n_0, n_L)."""
        # Transposed, a moment that all chains share makes one matrix product of them all.
        flipped = error.mT.contiguous()
        slope = flipped @ moment
        loss = torch.linalg.vecdot(flipped.flatten(1), slope.flatten(1)) / self.widths[-1]
        return loss, slope.mul_(2.0 / self.widths[-1]).mT

    def _data(self, block: tuple[Any, Tensor] | None, chains: int) -> tuple[str, Tensor]:
        """("rows", (chains, m, n_0)) or ("moments", (n_0, n_0) or (chains, n_0, n_0))."""
        if block is None:
            return "moments", self.moment
        (kind, stored), turn = block
        if kind == "moments":
            return kind, stored[turn]
        assert self.rows is not None
        x = self.rows(stored[turn])
        return ("rows", x) if kind == "rows" else ("moments", torch.bmm(x.mT, x).div_(x.shape[1]))


def dln_potential(
    widths: Sequence[int],
    target: Tensor,
    inputs: DlnInputs | Tensor,
    *,
    mode: str = "minibatch",
    form: str = "auto",
    stored_bytes: int = 2**31,
) -> DlnPotential:
    """A `DlnPotential` for inputs that are stored, (n, n_0), or made when needed (`DlnInputs`).

    Args:
        mode: "minibatch" or "collapsed" (see the module).
        stored_bytes: `DlnInputs` that fit into this are kept in memory, larger ones are made anew for every batch.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not one of {', '.join(MODES)}")
    if isinstance(inputs, Tensor):
        moment = (inputs.double().T @ inputs.double()) / len(inputs)
        count, device, stored = len(inputs), inputs.device, inputs.float()
        rows: Callable[[Tensor], Tensor] = stored.__getitem__
    else:
        moment, count, device, rows = inputs.second_moment(), inputs.num_data, torch.device(inputs.device), inputs.rows
        if mode == "minibatch" and 4 * count * inputs.width <= stored_bytes:
            rows = inputs.all().__getitem__
    chosen = rows if mode == "minibatch" else None
    return DlnPotential(widths, target, moment, num_data=count, rows=chosen, form=form, device=device)


def estimate_dln_llc(
    weights: Sequence[np.ndarray | Tensor],
    inputs: DlnInputs | Tensor,
    *,
    target: Tensor | None = None,
    mode: str = "minibatch",
    form: str = "auto",
    **sampling: Any,
) -> LlcEstimate:
    """`estimate_llc` for a deep linear network, an order of magnitude faster.

    Args:
        weights: w*, matrices (n_{k-1}, n_k).
        inputs: X, (n, n_0), or `DlnInputs`.
        target: P*, (n_0, n_L); the network's own product if None, so that w* has loss zero.
        mode: "minibatch" samples as `estimate_llc` does; "collapsed" uses the exact full-data gradient at the price of
            n_0
            rows, which is another sampler: its estimates carry no minibatch noise.
        **sampling: `Sampling`.
    """
    matrices = [torch.as_tensor(w, dtype=torch.float32) for w in weights]
    shapes = [tuple(w.shape) for w in matrices]
    if not shapes or any(len(s) != 2 for s in shapes) or any(a[1] != b[0] for a, b in pairwise(shapes)):
        raise ValueError(f"weights must be matrices (n_(k-1), n_k) that follow one another, got shapes {shapes}")
    if not isinstance(inputs, DlnInputs):
        inputs = torch.as_tensor(inputs)
    widths = (*(w.shape[0] for w in matrices), matrices[-1].shape[1])
    settings = Sampling(**{**sampling, **({"batch_size": None} if mode == "collapsed" else {})})
    goal = product([w.double() for w in matrices]) if target is None else target
    potential = dln_potential(widths, goal, inputs, mode=mode, form=form)
    return sample(potential, flat(matrices), settings)


# -- training -------------------------------------------------------------------------------------------------------


class DlnTraining:
    """Training on a potential, step by step: SGD, ``v <- momentum v + grad L_B``, ``w <- w - lr v``, or Adam (Kingma
    and Ba 2015, algorithm 1, with their beta_1 = 0.9, beta_2 = 0.999 and epsilon = 1e-8).

    Args:
        params: where to start, flat, (chains, D); copied.
        optimizer: "sgd" or "adam", which takes no momentum.
    """

    def __init__(
        self,
        potential: DlnPotential,
        params: Tensor,
        *,
        optimizer: str = "sgd",
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        batch_size: int = 500,
        seed: int = 0,
    ):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={optimizer!r} is not one of {', '.join(OPTIMIZERS)}")
        self.potential, self.learning_rate, self.momentum = potential, learning_rate, momentum
        self.adam = optimizer == "adam"
        self.batches = Batches(potential.num_data, batch_size, seed)
        self.params = params.to(potential.device, potential.dtype, copy=True)
        self.velocity = torch.zeros_like(self.params)
        self.second = torch.zeros_like(self.params) if self.adam else torch.empty(0)
        self.turns = self.batches.turns(len(params)).to(potential.device).unbind(0)
        self.epoch: Any = None

    def parts(self) -> dict[str, Any]:
        """All that the next step depends on, for a checkpoint."""
        return {"trained": self.params, "velocity": self.velocity, "second": self.second}

    def healthy(self) -> bool:
        return bool(torch.isfinite(self.params).all())

    def step(self, number: int) -> Tensor:
        """Step `number`, from 0; the loss of its batch, before the step, (chains,)."""
        turn = number % self.batches.per_epoch
        if turn == 0 or self.epoch is None:
            self.epoch = self.potential.epoch(self.batches.epoch(number // self.batches.per_epoch))
        loss, gradient = self.potential.loss_and_gradient(self.params, (self.epoch, self.turns[turn]))
        if self.adam:
            self.velocity.lerp_(gradient, 1 - BETAS[0])
            self.second.lerp_(gradient.square(), 1 - BETAS[1])
            first, second = (1 - beta ** (number + 1) for beta in BETAS)
            self.params.addcdiv_(
                self.velocity, (self.second / second).sqrt_().add_(1e-8), value=-self.learning_rate / first
            )
            return loss
        if self.momentum:
            gradient = self.velocity.mul_(self.momentum).add_(gradient)
        self.params.add_(gradient, alpha=-self.learning_rate)
        return loss
