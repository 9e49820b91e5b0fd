"""Training of several small sphere networks at once, without autograd (Ott et al. 2021, section 2.3).

The field of `SimpleOdeNet` or `LinearOdeNet` is three dense layers, f(z) = act(act(z A1 + b1) A2 + b2) A3 + b3. One
compiled sweep (module `sweep`) takes 64 samples of one seed through all steps and back: the fixed-step solve, the
cross-entropy, and the hand-written discrete adjoint of the same steps,

    z_{n+1} = z_n + h sum_i b_i k_i,    k_i = f(y_i),    y_i = z_n + h sum_{j<i} a_ij k_j
    gk_i = h b_i l_{n+1} + h sum_{j>i} a_ji gy_j,    gy_i = f'(y_i)^T gk_i,    l_n = l_{n+1} + sum_i gy_i

so that gradients are those of autograd through the solver, and Adam is that of torch. The sweeps of all seeds and all
64 samples run in parallel; nothing else is divided, so that results do not depend on the number of threads. A
convolution is tied by a table of indices: every dense entry says which parameter it is, and a parameter's gradient is
the sum over its entries.

    kernel = build(model, n_seeds=5)
    state = init(kernel, [model_0, ..., model_4])
    loss, correct = update(kernel, state, x, y, SolverSetting("euler", 1 / 64))      # x (S, B, d), y (S, B)

`state` is a dict of tensors and one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from reprod import machine
from reprod.neural_ode import solvers
from reprod.neural_ode.models import (
    DENSE_UP_TO,
    LinearField,
    LinearOdeNet,
    OdeClassifier,
    SimpleOdeNet,
    tied_matrices,
)
from reprod.neural_ode.solvers import SOLVERS, SolverSetting
from reprod.neural_ode.sweep import LEAKY_RELU, RELU, SIGMOID, sweeps

State = dict[str, Any]  # theta, exp_avg, exp_avg_sq: (S, P); step: number of updates made

COLUMNS = 64  # samples of one sweep: small enough that a sweep's matrices stay in the second-level cache
ACTIVATIONS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {  # code in the sweep, and in place on a tensor
    "relu": (RELU, torch.relu_),
    "leaky_relu": (LEAKY_RELU, lambda h: torch.nn.functional.leaky_relu_(h, 0.01)),
    "sigmoid": (SIGMOID, torch.sigmoid_),
}


class Gradient(NamedTuple):
    """Per seed: mean cross-entropy (S,), number of hits (S,), gradient of the loss (S, P)."""

    loss: Tensor
    correct: Tensor
    theta: Tensor


@dataclass(eq=False)
class Kernel:
    """What stays the same through a training: sizes, index tables, optimiser settings, buffers."""

    dim: int
    width: int  # of the hidden layers: d C (convolution) or C
    n_classes: int
    n_seeds: int
    activation: str
    names: list[str]
    shapes: list[torch.Size]
    lr: float
    betas: tuple[float, float]
    eps: float
    dtype: torch.dtype
    entries: (
        Tensor  # (D,): what each entry of the dense vector A1 b1 A2 b2 A3' b3 Wc bc is, as an index into (theta, 0)
    )
    occurrences: Tensor  # (P, m): where each parameter stands in (dense vector, 0)
    buffers: dict[str, Any] = field(default_factory=dict)


def supports(model: OdeClassifier) -> bool:
    """Whether `build` takes this model: vectors of moderate dimension, a fixed-step solver, on the CPU."""
    own = model.arguments
    return (
        isinstance(model, LinearOdeNet | SimpleOdeNet)
        and own["dim"] <= DENSE_UP_TO
        and not own["adjoint"]
        and not SOLVERS[own["solver"]].adaptive
        and own["precision"] in ("fp32", "fp64")
        and model.classifier.weight.device.type == "cpu"
    )


def build(
    model: OdeClassifier,
    n_seeds: int,
    *,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Kernel:
    """A kernel for `n_seeds` networks like `model`."""
    dim = model.arguments["dim"]
    numbers, total = [], 0
    for parameter in model.parameters():  # number the parameters 1, 2, ...; 0 is a structural zero
        numbers.append(torch.arange(total + 1, total + parameter.numel() + 1, dtype=torch.float64).view_as(parameter))
        total += parameter.numel()
    first, b1, middle, b2, last, b3, *classifier = numbers
    if isinstance(model.field, LinearField):
        dense = first.T, b1, middle.T, b2, last.T, b3
    else:
        dense = tied_matrices(dim, (first, b1, middle, b2, last, b3))
    a1, b1, a2, b2, a3, b3 = dense
    flat = torch.cat([t.flatten() for t in (a1, b1, a2, b2, a3.T, b3, *classifier)]).long()
    return Kernel(
        dim=dim,
        width=len(b2),
        n_classes=model.arguments["n_classes"],
        n_seeds=n_seeds,
        activation=model.arguments["activation"],
        names=[name for name, _ in model.named_parameters()],
        shapes=[p.shape for p in model.parameters()],
        lr=lr,
        betas=betas,
        eps=eps,
        dtype=model.classifier.weight.dtype,
        entries=torch.where(flat > 0, flat - 1, total),
        occurrences=_occurrences(flat, total),
    )


def _occurrences(flat: Tensor, total: int) -> Tensor:
    """Row p: where parameter p + 1 stands in `flat`, padded with len(flat)."""
    counts = torch.bincount(flat, minlength=total + 1)
    order = torch.argsort(flat, stable=True)[counts[0] :]
    counts = counts[1:]
    rows = torch.full((total, int(counts.max())), len(flat))
    parameter = torch.repeat_interleave(counts)
    rows[parameter, torch.arange(len(order)) - (counts.cumsum(0) - counts)[parameter]] = order
    return rows


def init(kernel: Kernel, models: Sequence[OdeClassifier]) -> State:
    """The state before the first update, from one initialised model per seed."""
    theta = torch.stack([parameters_to_vector(m.parameters()).detach() for m in models])
    return {"theta": theta, "exp_avg": torch.zeros_like(theta), "exp_avg_sq": torch.zeros_like(theta), "step": 0}


def update(kernel: Kernel, state: State, x: Tensor, y: Tensor, setting: SolverSetting) -> tuple[Tensor, Tensor]:
    """One iteration of all seeds in place; returns loss (S,) and hits (S,) before the update."""
    gradient = gradients(kernel, state["theta"], x, y, setting)
    adam(kernel, state, gradient.theta)
    return gradient.loss, gradient.correct


def adam(kernel: Kernel, state: State, gradient: Tensor) -> None:
    """torch.optim.Adam without weight decay, operation for operation, in place."""
    beta1, beta2 = kernel.betas
    state["step"] += 1
    state["exp_avg"].lerp_(gradient, 1 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    bias1, bias2 = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
    denominator = (state["exp_avg_sq"].sqrt() / math.sqrt(bias2)).add_(kernel.eps)
    state["theta"].addcdiv_(state["exp_avg"], denominator, value=-kernel.lr / bias1)


def gradients(kernel: Kernel, theta: Tensor, x: Tensor, y: Tensor, setting: SolverSetting) -> Gradient:
    """Loss, hits and gradient of every seed on its own batch: x (S, B, d), y (S, B)."""
    lengths, (a, b) = np.array(setting.step_lengths()), setting.scheme.tableau()
    stages = len(b)
    buffer = _buffers(kernel, x.shape[1], len(lengths) * stages, stages)
    threads = min(len(buffer["work"][0]), torch.get_num_threads())
    settings = (
        threads, x.to(kernel.dtype).contiguous().numpy(), y.contiguous().numpy(), _dense(kernel, theta).numpy(),
        a, b, lengths, kernel.width, kernel.n_classes, ACTIVATIONS[kernel.activation][0],
        *buffer["work"], buffer["gradient"], buffer["loss"], buffer["correct"],
    )  # fmt: skip
    with _blas().limit(limits=1, user_api="blas"):  # the sweeps are parallel, their products must not be
        machine.share(lambda thread: sweeps(thread, *settings), threads, threads)
    dense = torch.from_numpy(buffer["gradient"]).sum(1)
    tied = dense.index_select(1, kernel.occurrences.flatten()).unflatten(1, kernel.occurrences.shape).sum(-1)
    loss, correct = torch.from_numpy(buffer["loss"]).sum(1), torch.from_numpy(buffer["correct"]).sum(1)
    return Gradient(loss, correct, tied)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _dense(kernel: Kernel, theta: Tensor) -> Tensor:
    """(S, D): A1 (d, W), b1, A2 (W, W), b2, A3' (d, W), b3, Wc (classes, d), bc of every seed, one after the other."""
    return torch.cat([theta, theta.new_zeros(len(theta), 1)], 1).index_select(1, kernel.entries)


def _buffers(kernel: Kernel, batch: int, evaluations: int, stages: int) -> dict[str, Any]:
    """Arrays of the sweeps, made once, and again only when a solve is longer than any before."""
    old = kernel.buffers
    same = old.get("batch") == batch and old["stages"] == stages
    if same and old["evaluations"] >= evaluations:
        return old
    if same:
        evaluations = max(evaluations, old["evaluations"] * 5 // 4)  # step adaptation grows in small steps
    chunks = math.ceil(batch / COLUMNS)
    columns = math.ceil(batch / chunks)
    threads = min(torch.get_num_threads(), kernel.n_seeds * chunks)
    d, w = kernel.dim, kernel.width
    dtype = torch.empty(0, dtype=kernel.dtype).numpy().dtype

    def empty(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype)

    kernel.buffers = {
        "batch": batch,
        "stages": stages,
        "evaluations": evaluations,
        "work": (  # for each thread: stages y with the final state, h2, k with gy, and h1, g1, g2
            empty(threads, evaluations + 1, columns, d),
            empty(threads, evaluations, columns, w),
            empty(threads, 2 * stages + 2, columns, d),
            empty(threads, 3, columns, w),
        ),
        "gradient": empty(kernel.n_seeds, chunks, len(kernel.entries) + 1),  # the last entry stays 0: see _occurrences
        "loss": empty(kernel.n_seeds, chunks),
        "correct": np.zeros((kernel.n_seeds, chunks), np.int64),
    }
    return kernel.buffers


# -- using the trained parameters -----------------------------------------------------------------------------------


def state_dict(kernel: Kernel, theta: Tensor) -> dict[str, Tensor]:
    """One seed's parameters (P,) under the names of its model, for `load_state_dict`."""
    pieces = theta.split([shape.numel() for shape in kernel.shapes])
    return {n: p.view(s).clone() for n, p, s in zip(kernel.names, pieces, kernel.shapes, strict=True)}


def from_state_dicts(kernel: Kernel, state_dicts: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """theta (S, P) of trained models."""
    rows = [torch.cat([d[name].flatten() for name in kernel.names]) for d in state_dicts]
    return torch.stack(rows).to(kernel.dtype)


@torch.no_grad()
def logits(kernel: Kernel, theta: Tensor, x: Tensor, setting: SolverSetting) -> tuple[Tensor, int]:
    """Logits (S, n, n_classes) of x, (n, d) or (S, n, d), under any fixed-step solver, and the evaluations of a solve.

    Not for adaptive solvers: the seeds would share their steps.
    """
    if setting.scheme.adaptive:
        raise ValueError(f"{setting.name} would share its steps between the seeds")
    d, w, c = kernel.dim, kernel.width, kernel.n_classes
    pieces = _dense(kernel, theta).split([d * w, w, w * w, w, d * w, d, c * d, c], 1)
    a1, b1, a2, b2, a3, b3, weight, bias = pieces
    act = ACTIVATIONS[kernel.activation][1]
    # columns (S, d, n): the skinny products are several times faster when the samples are the contiguous axis
    m1, m2, m3 = a1.unflatten(1, (d, w)).mT.contiguous(), a2.unflatten(1, (w, w)).mT, a3.unflatten(1, (d, w))

    def f(z: Tensor) -> Tensor:
        h = act(torch.baddbmm(b1[..., None], m1, z))
        return torch.baddbmm(b3[..., None], m3, act(torch.baddbmm(b2[..., None], m2, h)))

    z = x.to(kernel.dtype).expand(len(theta), *x.shape[-2:]).mT.contiguous()
    z, evaluations = solvers.solve(f, z, setting)
    return torch.baddbmm(bias[..., None], weight.unflatten(1, (c, d)), z).mT, evaluations.forward
