"""Losses of many chains at once: what the samplers ask of a model and its data.

A potential evaluates the *average* loss L_B of a block of rows, or of all of them, at the flat parameters of every
chain: (chains, D) -> (chains,), with gradients (chains, D). `ModelPotential` takes any `torch.nn.Module`; the
hand-written one of deep linear networks is in `dln`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from reprod.training import torch_stream


class Potential(Protocol):
    """`block` arguments are (epoch, turn): what `epoch` returned, and the block that each chain uses, (chains,)."""

    dimension: int
    num_data: int
    device: torch.device
    dtype: torch.dtype

    def epoch(self, rows: Tensor) -> Any:
        """Prepare an epoch whose blocks hold these rows, (blocks, m)."""

    def loss(self, params: Tensor, block: tuple[Any, Tensor] | None = None) -> Tensor:
        """Average loss of each chain's block, or of all data: (chains, D) -> (chains,)."""

    def loss_and_gradient(self, params: Tensor, block: tuple[Any, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The same with its gradient, (chains, D), in a buffer that the next call may overwrite."""


class ModelPotential:
    """Average loss of any module over data in memory, its chains batched with `torch.func`.

    The module is evaluated in eval mode (BatchNorm uses its frozen running statistics, dropout is off) and is never
    changed: parameters with `requires_grad` are replaced by those of the chains, all else stays as it is.

    Args:
        model: a module with at least one trainable parameter, of float32 or float64.
        loss: ``loss(output, *rest)``, the mean over a batch, a scalar.
        data: tensors with one row per example: ``(inputs, *rest)``.
        batch_chains: evaluate all chains in one vectorised call; False loops over them, for modules that
            `torch.func.vmap` cannot follow and for convolutions on a CPU, where a loop is faster.
        rows_at_once: rows per evaluation of the full-data loss, which bounds its memory.

    Raises:
        ValueError: no trainable parameter, parameters in half precision, data without rows or of unequal lengths, a
            loss that is no scalar, no mean over the batch, or random; a module that vmap cannot follow.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        data: Sequence[Tensor],
        *,
        batch_chains: bool = True,
        rows_at_once: int = 4096,
    ):
        trainable = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError(f"{type(model).__name__} has no parameter with requires_grad: there is nothing to sample")
        if len({p.dtype for p in trainable.values()}) > 1 or len({p.device for p in trainable.values()}) > 1:
            raise ValueError("the trainable parameters must share one dtype and one device")
        if (dtype := next(iter(trainable.values())).dtype) not in (torch.float32, torch.float64):
            raise ValueError(
                f"the parameters are {dtype}; chains need float32 or float64, in coarser rounding their steps are lost:"
                " give model.float(), and data of that type"
            )
        # A copy: the caller's module keeps its training mode and its parameters.
        model = copy.deepcopy(model).eval()
        self.data = check_data(data)
        first = next(iter(trainable.values()))
        self.device, self.dtype = first.device, first.dtype
        self.data = tuple(t.to(self.device) for t in self.data)
        self.num_data = len(self.data[0])
        self.centre = torch.cat([p.reshape(-1) for p in trainable.values()])
        self.dimension = self.centre.numel()
        self.rows_at_once = rows_at_once
        self.shapes = shapes = {name: p.shape for name, p in trainable.items()}
        sizes = [p.numel() for p in trainable.values()]
        self.slices = dict(zip(shapes, _slices(sizes), strict=True))
        fixed = {name: p.detach() for name, p in model.named_parameters() if name not in trainable}
        fixed |= dict(model.named_buffers())

        def value(flat: Tensor, *batch: Tensor) -> Tensor:
            pieces = zip(shapes.items(), flat.split(sizes), strict=True)
            params = {name: piece.view(shape) for (name, shape), piece in pieces}
            return loss(functional_call(model, {**fixed, **params}, (batch[0],)), *batch[1:])

        few = [t[:8] for t in self.data]
        with torch.random.fork_rng(_devices(self.device)):
            check_loss(value, self.centre, few, type(model).__name__)
            graded = grad_and_value(value)
            # The first use of torch.func imports for seconds; the time of sampling is not to hold that.
            graded(self.centre, *few)
            follows = check_vmap(value, graded, self.centre, few, type(model).__name__) if batch_chains else False
        self._batch_chains, self._batch_losses = batch_chains, follows
        # (vectorised, own rows) -> function; a single chain is faster without vmap.
        own, common = (0, *[0] * len(self.data)), (0, *[None] * len(self.data))
        ways = [(v, o, vmap if v else _looped, own if o else common) for v in (True, False) for o in (True, False)]
        self._loss = {(v, o): spread(value, in_dims=dims) for v, o, spread, dims in ways}
        self._graded = {(v, o): spread(graded, in_dims=dims) for v, o, spread, dims in ways}

    def epoch(self, rows: Tensor) -> Tensor:
        return rows.to(self.device)

    def loss(self, params: Tensor, block: tuple[Tensor, Tensor] | None = None) -> Tensor:
        vectorised = self._batch_losses and len(params) > 1
        with torch.no_grad():
            if block is not None:
                return self._loss[vectorised, True](params, *self._rows(block))
            total = torch.zeros(len(params), device=self.device, dtype=self.dtype)
            for share, batch in self._chunks():
                total += share * self._loss[vectorised, False](params, *batch)
            return total

    def loss_and_gradient(self, params: Tensor, block: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        vectorised = self._batch_chains and len(params) > 1
        if block is not None:
            gradient, value = self._graded[vectorised, True](params, *self._rows(block))
            return value.detach(), gradient.detach()
        total, slope = torch.zeros(len(params), device=self.device, dtype=self.dtype), torch.zeros_like(params)
        for share, batch in self._chunks():
            gradient, value = self._graded[vectorised, False](params, *batch)
            total += share * value.detach()
            slope.add_(gradient.detach(), alpha=share)
        return total, slope

    def _rows(self, block: tuple[Tensor, Tensor]) -> list[Tensor]:
        rows, turn = block
        index = rows[turn]
        return [t[index] for t in self.data]

    def _chunks(self) -> Iterator[tuple[float, list[Tensor]]]:
        for start in range(0, self.num_data, self.rows_at_once):
            batch = [t[start : start + self.rows_at_once] for t in self.data]
            yield len(batch[0]) / self.num_data, batch


def check_loss(value: Callable[..., Tensor], centre: Tensor, few: Sequence[Tensor], model: str) -> None:
    """Refuse a loss that is no scalar, random, or no mean: on the same rows twice, a mean is what it was."""
    with torch.no_grad():
        try:
            found = value(centre, *few)
        except (TypeError, RuntimeError) as error:
            raise ValueError(
                f"the model, {model}, gets the first tensor of data, and the loss its output and the other tensors; on"
                f" the first rows that failed: {error}. Wrap a model of several inputs in one that takes one tensor"
            ) from error
        if not isinstance(found, Tensor) or found.ndim != 0:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"loss must return the mean over the batch, a scalar tensor; it returned {shape}")
        # A little off w*, where the loss may be zero.
        noise = torch.randn(centre.shape, generator=torch_stream(0, "check/loss"), dtype=centre.dtype).to(centre.device)
        near = centre + 0.01 * noise
        once, again, twice = value(near, *few), value(near, *few), value(near, *(torch.cat([t, t]) for t in few))
    if not bool(torch.isfinite(twice)):
        return  # said where the loss at w* is evaluated
    if not torch.equal(once, again):
        raise ValueError(
            f"{model} or the loss draws random numbers in eval mode (dropout as a function, without"
            " training=self.training?): there is no loss to estimate with"
        )
    if not torch.allclose(once, twice, rtol=1e-3, atol=1e-12):
        raise ValueError(
            f"loss is not the mean over the batch: the same rows twice make it {float(twice):.6g} instead of"
            f' {float(once):.6g}; use reduction="mean"'
        )


def check_vmap(
    value: Callable[..., Tensor], graded: Callable[..., Any], centre: Tensor, few: Sequence[Tensor], model: str
) -> bool:
    """Refuse, with a hint, a module whose gradients `torch.func.vmap` cannot follow; and whether it can follow the loss
    alone, too: recurrent modules take another path without gradients, and are then looped over."""
    pair, dims = centre.expand(2, -1), (0, *[None] * len(few))
    try:
        vmap(graded, in_dims=dims)(pair, *few)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"torch.func.vmap cannot evaluate several chains of {model} at once ({reason}); give batch_chains=False"
        ) from error
    try:
        with torch.no_grad():
            vmap(value, in_dims=dims)(pair, *few)
    except RuntimeError:
        return False
    return True


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def check_data(data: Sequence[Tensor]) -> tuple[Tensor, ...]:
    tensors = tuple(data)
    if not tensors or not all(isinstance(t, Tensor) and t.ndim >= 1 for t in tensors):
        raise ValueError("data must be tensors with one row per example: (inputs, targets)")
    lengths = [len(t) for t in tensors]
    if len(set(lengths)) > 1 or lengths[0] < 1:
        raise ValueError(f"the tensors of data must have the same, positive number of rows, got {lengths}")
    return tensors


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _looped(function: Callable[..., Any], in_dims: tuple[int | None, ...]) -> Callable[..., Any]:
    """`vmap` by a Python loop, for functions that return a tensor or a pair of them."""

    def call(*arguments: Tensor) -> Any:
        picked = [
            [a if dim is None else a[i] for a, dim in zip(arguments, in_dims, strict=True)]
            for i in range(len(arguments[0]))
        ]
        results = [function(*p) for p in picked]
        if isinstance(results[0], tuple):
            return tuple(torch.stack([r[i] for r in results]) for i in range(len(results[0])))
        return torch.stack(results)

    return call
