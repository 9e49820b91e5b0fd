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
        model: a module with at least one trainable parameter.
        loss: ``loss(output, *rest)``, the mean over a batch, a scalar.
        data: tensors with one row per example: ``(inputs, *rest)``.
        batch_chains: evaluate all chains in one vectorised call; False loops over them, for modules that
            `torch.func.vmap` cannot follow and for convolutions on a CPU, where a loop is faster.
        rows_at_once: rows per evaluation of the full-data loss, which bounds its memory.

    Raises:
        ValueError: no trainable parameter, data without rows or of unequal lengths, a loss that is no scalar.
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
        shapes = {name: p.shape for name, p in trainable.items()}
        sizes = [p.numel() for p in trainable.values()]
        self.slices = dict(zip(shapes, _slices(sizes), strict=True))
        fixed = {name: p.detach() for name, p in model.named_parameters() if name not in trainable}
        fixed |= dict(model.named_buffers())

        def value(flat: Tensor, *batch: Tensor) -> Tensor:
            pieces = zip(shapes.items(), flat.split(sizes), strict=True)
            params = {name: piece.view(shape) for (name, shape), piece in pieces}
            return loss(functional_call(model, {**fixed, **params}, (batch[0],)), *batch[1:])

        few = [t[:2] for t in self.data]
        with torch.no_grad():
            found = value(self.centre, *few)
        if not isinstance(found, Tensor) or found.ndim != 0:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"loss must return the mean over the batch, a scalar tensor; it returned {shape}")
        graded = grad_and_value(value)
        # The first use of torch.func imports for seconds; the time of sampling is not to hold that.
        graded(self.centre, *few)
        self._batch_chains = batch_chains
        # (vectorised, own rows) -> function; a single chain is faster without vmap.
        own, common = (0, *[0] * len(self.data)), (0, *[None] * len(self.data))
        ways = [(v, o, vmap if v else _looped, own if o else common) for v in (True, False) for o in (True, False)]
        self._loss = {(v, o): spread(value, in_dims=dims) for v, o, spread, dims in ways}
        self._graded = {(v, o): spread(graded, in_dims=dims) for v, o, spread, dims in ways}

    def epoch(self, rows: Tensor) -> Tensor:
        return rows.to(self.device)

    def loss(self, params: Tensor, block: tuple[Tensor, Tensor] | None = None) -> Tensor:
        vectorised = self._batch_chains and len(params) > 1
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
