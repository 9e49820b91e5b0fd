"""Training R networks at once, batch size one (spec 2.3): `build`, then `train` and `evaluate` on rows of weights.

Trial r owns two named streams of its seed, "trial/r/init" and "trial/r/samples" (and "trial/r/head"): a trial trained
among a hundred and the same trial trained alone agree to the last bit. Trials are shared out to threads; no result
depends on how many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reprod.machine import share
from reprod.training import stream

from . import networks

Array = np.ndarray


@dataclass(frozen=True)
class Examples:
    """Training and validation images (n, C, 32, 32) and labels (n,); training labels may be corrupted."""

    x_train: Array
    y_train: Array
    x_val: Array
    y_val: Array


def samples(seed: int, trial: int, size: int, iterations: int) -> Array:
    """Indices (T,) int32 of the training samples that a trial sees: uniform, with replacement."""
    return stream(seed, f"trial/{trial}/samples").integers(size, size=iterations).astype(np.int32)


@dataclass(frozen=True)
class Ensemble:
    """What `build` returns. `weights` (R, P) is updated in place by `train`.

    train(first, last): SGD steps first ... last-1 of all trials; their logits before each update go into `logits`.
    evaluate() -> (loss (R,), accuracy (R,)) on the validation images.
    """

    weights: Array
    heads: Array
    samples: Array
    logits: Array
    train: Callable[[int, int], None]
    evaluate: Callable[[], tuple[Array, Array]]


def build(
    examples: Examples,
    *,
    classes: int,
    trials: int,
    iterations: int,
    lr: float,
    seed: int,
    head: bool = False,
    dtype: str = "float32",
    threads: int | None = None,
    which: range | None = None,
) -> Ensemble:
    """An ensemble at its initialisation.

    Args:
        trials: R; `which` picks some of the trials 0 ... R-1 (default: all).
        threads: workers that share the trials; default: torch's number.
    """
    from . import kernels

    kind = np.dtype(dtype)
    channels = examples.x_train.shape[1]
    x_train = kernels.flat(examples.x_train.astype(kind))
    x_val = kernels.lanes(examples.x_val.astype(kind))
    y_train, y_val = (np.ascontiguousarray(y, dtype=np.int64) for y in (examples.y_train, examples.y_val))
    rows = list(which if which is not None else range(trials))
    weights = np.stack([networks.initial(classes, channels, seed, r) for r in rows]).astype(kind)
    heads = np.zeros((len(rows), 0, 0), kind)
    if head:
        heads = np.stack([networks.orthogonal_head(classes, seed, r) for r in rows]).astype(kind)
    order = np.stack([samples(seed, r, len(y_train), iterations) for r in rows])
    logits = np.zeros((len(rows), iterations, classes), kind)

    def train(first: int, last: int) -> None:
        def one(r: int) -> None:
            part = slice(first, last)
            kernels.train(weights[r], x_train, y_train, order[r, part], kind.type(lr), heads[r], logits[r, part])

        share(one, len(rows), threads)

    def evaluate() -> tuple[Array, Array]:
        loss, accuracy = np.empty(len(rows)), np.empty(len(rows))

        def one(r: int) -> None:
            loss[r], accuracy[r] = kernels.evaluate(weights[r], x_val, y_val, heads[r], classes)

        share(one, len(rows), threads)
        return loss, accuracy

    return Ensemble(weights, heads, order, logits, train, evaluate)
