"""Training R small networks at once (Eslami et al. 2021, section 2): `build`, `State`, `init`, `update`.

Adam with Keras's epsilon (outside the bias correction), cross-entropy of a softmax averaged over the batch, a new order
of the samples in each epoch and for each network, the last partial batch kept, biases from zero:

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,
    w <- w - rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + 1e-7).

Network r of a seed owns three named streams of it, `network/r/init`, `network/r/batches` and `network/r/dropout`: a
network trained in a batch of a hundred and the same network trained alone agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from reprod.machine import share
from reprod.training import stream

from .architectures import Architecture

RATE = 1e-3


@dataclass(frozen=True)
class State:
    """Everything that the next epoch depends on, and the snapshot of the early weights.

    weights, first_moment, second_moment: (R, P) float32, all parameters of each network in `architectures`' layout.
    early: (R, P) float32, the weights after `early_epoch` epochs (zero before); loss: (R,) float64, mean training loss
    of the last epoch; networks: (R, 2) int64, seed and number of each network; epoch: () int64, epochs done.
    """

    weights: Tensor
    first_moment: Tensor
    second_moment: Tensor
    early: Tensor
    loss: Tensor
    networks: Tensor
    epoch: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """A plain dictionary of tensors: `State(**state.tensors())` is the state again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Ensemble:
    """What `build` returns: `init(networks) -> State` for pairs (seed, number), `update(state, epochs=1) -> State` and
    `predict(weights, x, y) -> (prob (R, n, C), loss (R,))`."""

    init: Callable[[Sequence[tuple[int, int]]], State]
    update: Callable[..., State]
    predict: Callable[[Tensor, np.ndarray, np.ndarray], tuple[Tensor, Tensor]]


@cache
def key(seed: int, number: int, purpose: str) -> np.uint64:
    """The 63-bit key of one of the streams of a network."""
    return np.uint64(stream(seed, f"network/{number}/{purpose}").integers(2**63))


def initial_weights(architecture: Architecture, seed: int, number: int) -> np.ndarray:
    """Flat parameters (P,) float32: uniform kernels within each layer's limit, zero biases."""
    rng = stream(seed, f"network/{number}/init")
    parts = []
    for layer in architecture.layers:
        parts += [rng.uniform(-layer.limit, layer.limit, layer.kernel_size), np.zeros(layer.shape[-1])]
    return np.concatenate(parts).astype(np.float32)


def build(
    architecture: Architecture,
    x: np.ndarray,
    y: np.ndarray,
    *,
    batch_size: int,
    early_epoch: int = 2,
    rate: float = RATE,
    threads: int | None = None,
) -> Ensemble:
    """Training of `architecture` on the data x (n, 2) or (n, 28, 28), labels y (n,).

    Args:
        early_epoch: epochs after which the early snapshot is taken.
        threads: worker threads that share the networks (default: torch's number); no result depends on it.

    Raises:
        ValueError: shapes that do not belong together, or a batch size below 1.
    """
    expected = (2,) if architecture.dataset == "iris" else (28, 28)
    if x.shape != (len(y), *expected):
        raise ValueError(f"{architecture.name} reads inputs of shape {(len(y), *expected)}, got {x.shape}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    from . import kernels

    x = np.ascontiguousarray(x, dtype=np.float32)
    y = np.ascontiguousarray(y, dtype=np.int64)
    batch_size = min(batch_size, len(y))
    dense = architecture.convolutions == 0
    widths = np.array(architecture.widths if dense else (0,), dtype=np.int64)

    def for_each(function: Callable[[int], float], count: int) -> Tensor:
        return torch.tensor(share(function, count, threads), dtype=torch.float64)

    def init(networks: Sequence[tuple[int, int]]) -> State:
        weights = torch.from_numpy(np.stack([initial_weights(architecture, *network) for network in networks]))
        return State(
            weights=weights,
            first_moment=torch.zeros_like(weights),
            second_moment=torch.zeros_like(weights),
            early=torch.zeros_like(weights),
            loss=torch.full((len(weights),), float("nan"), dtype=torch.float64),
            networks=torch.tensor(networks, dtype=torch.int64),
            epoch=torch.tensor(0),
        )

    def run(state: State, epochs: int) -> State:
        w, m, v = (t.clone() for t in (state.weights, state.first_moment, state.second_moment))
        first = int(state.epoch)
        arrays = [t.numpy() for t in (w, m, v)]
        networks = [(int(seed), int(number)) for seed, number in state.networks]

        def one(r: int) -> float:
            w_r, m_r, v_r = (a[r] for a in arrays)
            order = key(*networks[r], "batches")
            if dense:
                losses = kernels.dense_epochs(w_r, m_r, v_r, order, first, epochs, x, y, widths, batch_size, rate)
            else:
                mask = key(*networks[r], "dropout")
                losses = kernels.conv_epochs(
                    w_r, m_r, v_r, order, mask, first, epochs, x, y, architecture.convolutions, batch_size, rate
                )
            return losses[-1]

        loss = for_each(one, len(w))
        return replace(state, weights=w, first_moment=m, second_moment=v, loss=loss, epoch=torch.tensor(first + epochs))

    def update(state: State, epochs: int = 1) -> State:
        """`epochs` further epochs of every network; the early snapshot is taken on the way."""
        before = early_epoch - int(state.epoch)
        if 0 < before <= epochs:
            state = run(state, before)
            state = replace(state, early=state.weights.clone())
            epochs -= before
        return run(state, epochs) if epochs else state

    def predict(weights: Tensor, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        """Class probabilities (R, n, C) float32 and mean cross-entropies (R,) float64, dropout off."""
        inputs = np.ascontiguousarray(x, dtype=np.float32)
        labels = np.ascontiguousarray(y, dtype=np.int64)
        prob = np.empty((len(weights), len(labels), architecture.classes), np.float32)
        rows = np.ascontiguousarray(weights.numpy(), dtype=np.float32)

        def one(r: int) -> float:
            if dense:
                return kernels.dense_predict(rows[r], inputs, labels, widths, prob[r])
            return kernels.conv_predict(rows[r], inputs, labels, architecture.convolutions, prob[r])

        loss = for_each(one, len(rows))
        return torch.from_numpy(prob), loss

    return Ensemble(init, update, predict)
