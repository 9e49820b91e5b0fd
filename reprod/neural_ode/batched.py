"""Training of several small sphere networks at once, without autograd (Ott et al. 2021, section 2.3).

The field of `SimpleOdeNet` or `LinearOdeNet` is three dense layers, f(z) = act(act(z A1 + b1) A2 + b2) A3 + b3, and
the seeds are a leading dimension of every array. A fixed-step solve runs forward over the tableau into buffers made
once; the reverse sweep is the hand-written discrete adjoint of the same steps,

    z_{n+1} = z_n + h sum_i b_i k_i,    k_i = f(y_i),    y_i = z_n + h sum_{j<i} a_ij k_j
    gk_i = h b_i l_{n+1} + h sum_{j>i} a_ji gy_j,    gy_i = f'(y_i)^T gk_i,    l_n = l_{n+1} + sum_i gy_i

so that gradients are those of autograd through the solver, and Adam is that of torch. A convolution is tied by a table
of indices: every dense entry says which parameter it is, and a parameter's gradient is the sum over its entries.

    kernel = build(model, n_seeds=5)
    state = init(kernel, [model_0, ..., model_4])
    loss, correct = update(kernel, state, x, y, solver="euler", step_size=1 / 64)        # x (S, B, d), y (S, B)

Inside, states are columns: (S, d, B) and (S, W, B), so that f(z) = M3 act(M2 act(M1 (z, 1)) + b2) + b3, because the
skinny products (W x d) are several times faster when the batch is the contiguous axis. `state` is a dict of tensors
and one number. Results depend on the thread count in the last digits, on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from reprod.neural_ode import solvers
from reprod.neural_ode.models import LinearField, LinearOdeNet, OdeClassifier, SimpleOdeNet, tied_matrices
from reprod.neural_ode.solvers import SOLVERS, step_lengths

State = dict[str, Any]  # theta, exp_avg, exp_avg_sq: (S, P); step: number of updates made

aten = torch.ops.aten
# name -> the activation in place, and gradient in place from the activation's output: grad <- grad * act'
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "relu": (torch.relu_, lambda g, h: aten.threshold_backward.grad_input(g, h, 0, grad_input=g)),
    "leaky_relu": (
        lambda h: torch.nn.functional.leaky_relu_(h, 0.01),
        lambda g, h: aten.leaky_relu_backward.grad_input(g, h, 0.01, True, grad_input=g),
    ),
    "sigmoid": (torch.sigmoid_, lambda g, h: aten.sigmoid_backward.grad_input(g, h, grad_input=g)),
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
    device: torch.device
    entries: list[Tensor]  # for M1 = (A1', b1), M2 = A2', b2, M3 = A3', b3: every entry's index into (theta, 0)
    occurrences: Tensor  # (P_field, m): every parameter's entries, as indices into (M1', M2, b2, M3, b3, 0)
    buffers: dict[str, Any] = field(default_factory=dict)


def supports(model: OdeClassifier) -> bool:
    """Whether `build` takes this model: vectors of moderate dimension, trained through a fixed-step solver."""
    own = model.arguments
    return (
        isinstance(model, LinearOdeNet | SimpleOdeNet)
        and own["dim"] <= 10
        and not own["adjoint"]
        and not SOLVERS[own["solver"]].adaptive
        and own["precision"] in ("fp32", "fp64")
    )


def build(
    model: OdeClassifier,
    n_seeds: int,
    *,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    device: str | torch.device = "cpu",
) -> Kernel:
    """A kernel for `n_seeds` networks like `model`."""
    dim = model.arguments["dim"]
    numbers, offset = [], 1
    for parameter in model.field.parameters():  # number the parameters 1, 2, ...; 0 is a structural zero
        numbers.append(torch.arange(offset, offset + parameter.numel(), dtype=torch.float64).view(parameter.shape))
        offset += parameter.numel()
    first, b1, middle, b2, last, b3 = numbers
    if isinstance(model.field, LinearField):
        dense = first.T, b1, middle.T, b2, last.T, b3
    else:
        dense = tied_matrices(dim, (first, b1, middle, b2, last, b3))
    a1, b1, a2, b2, a3, b3 = dense
    m1 = torch.cat([a1.T, b1[:, None]], 1)
    m1, m2, b2, m3, b3 = (t.long().to(device) for t in (m1, a2.T, b2[:, None], a3.T, b3[:, None]))
    n_field = offset - 1
    total = sum(p.numel() for p in model.parameters())
    flat = torch.cat([t.flatten() for t in (m1.T, m2, b2, m3, b3)])
    return Kernel(
        dim=dim,
        width=m2.shape[0],
        n_classes=model.arguments["n_classes"],
        n_seeds=n_seeds,
        activation=model.arguments["activation"],
        names=[name for name, _ in model.named_parameters()],
        shapes=[p.shape for p in model.parameters()],
        lr=lr,
        betas=betas,
        eps=eps,
        dtype=model.classifier.weight.dtype,
        device=torch.device(device),
        entries=[torch.where(t > 0, t - 1, total).flatten() for t in (m1, m2, b2, m3, b3)],
        occurrences=_occurrences(flat, n_field),
    )


def _occurrences(flat: Tensor, n_field: int) -> Tensor:
    """Row p: where parameter p + 1 stands in `flat`, padded with len(flat), where the gradient buffer has a zero."""
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=n_field + 1)
    order, counts = order[counts[0] :], counts[1:]
    rows = torch.full((n_field, int(counts.max())), len(flat), device=flat.device)
    parameter = torch.repeat_interleave(counts)
    start = counts.cumsum(0) - counts
    rows[parameter, torch.arange(len(order), device=flat.device) - start[parameter]] = order
    return rows


def init(kernel: Kernel, models: Sequence[OdeClassifier]) -> State:
    """The state before the first update, from one initialised model per seed."""
    theta = torch.stack([parameters_to_vector(m.parameters()).detach() for m in models]).to(kernel.device)
    return {"theta": theta, "exp_avg": torch.zeros_like(theta), "exp_avg_sq": torch.zeros_like(theta), "step": 0}


def update(kernel: Kernel, state: State, x: Tensor, y: Tensor, solver: str, step_size: float) -> tuple[Tensor, Tensor]:
    """One iteration of all seeds in place; returns loss (S,) and hits (S,) before the update."""
    gradient = gradients(kernel, state["theta"], x, y, solver, step_size)
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


def gradients(kernel: Kernel, theta: Tensor, x: Tensor, y: Tensor, solver: str, step_size: float) -> Gradient:
    """Loss, hits and gradient of every seed on its own batch: x (S, B, d), y (S, B)."""
    scheme, lengths = SOLVERS[solver], step_lengths(step_size)
    stages, batch = scheme.evaluations, x.shape[1]
    buffer = _buffers(kernel, batch, len(lengths) * stages, stages)
    act, act_gradient = ACTIVATIONS[kernel.activation]
    m1, m2, b2, m3, b3 = _dense(kernel, theta)
    m1t, m2t, m3t = m1[:, :, : kernel.dim].mT.contiguous(), m2.mT, m3.mT
    grad_m1t, grad_m2, grad_m3 = (buffer[name].zero_() for name in ("grad_m1t", "grad_m2", "grad_m3"))
    ys, zs, h2s, h2ts, gks = (buffer[name] for name in ("y", "z", "h2", "h2t", "gk"))
    k, gy, h1, g1, g2, sum2 = (buffer[name] for name in ("k", "gy", "h1", "g1", "g2", "sum2"))
    h1t, g1t = h1.mT, g1.mT
    sum2.zero_()

    zs[0].copy_(x.mT)
    e = 0
    for dt in lengths:
        z = zs[e]
        for i, row in enumerate(scheme.a):
            start = z
            for j, a in enumerate(row):
                if a:
                    start = torch.add(start, k[j], alpha=dt * a, out=zs[e])
            torch.bmm(m1, ys[e], out=h1)
            act(h1)
            torch.baddbmm(b2, m2, h1, out=h2s[e])
            act(h2s[e])
            torch.baddbmm(b3, m3, h2s[e], out=k[i])
            e += 1
        for i, b in enumerate(scheme.b):
            if b:
                z = torch.add(z, k[i], alpha=dt * b, out=zs[e])

    loss, correct, slope, classifier_gradient = _classify(kernel, theta, zs[e], y)

    for dt in reversed(lengths):
        for i in range(stages - 1, -1, -1):
            e -= 1
            gk = torch.mul(slope, dt * scheme.b[i], out=gks[e])
            for j in range(i + 1, stages):
                if scheme.a[j][i]:
                    gk.add_(gy[j], alpha=dt * scheme.a[j][i])
            grad_m3.baddbmm_(gk, h2ts[e])
            torch.bmm(m3t, gk, out=g2)
            act_gradient(g2, h2s[e])
            torch.bmm(m1, ys[e], out=h1)  # cheaper again than from memory
            act(h1)
            grad_m2.baddbmm_(g2, h1t)
            sum2.add_(g2)
            torch.bmm(m2t, g2, out=g1)
            act_gradient(g1, h1)
            grad_m1t.baddbmm_(ys[e], g1t)
            torch.bmm(m1t, g1, out=gy[i])
        for g in gy:
            slope.add_(g)

    grad_b2 = sum2.sum(-1)
    grad_b3 = buffer["gk_all"][: len(lengths) * stages].sum((0, 3))
    zero = grad_b3.new_zeros(kernel.n_seeds, 1)  # see _occurrences
    pieces = (grad_m1t, grad_m2, grad_b2, grad_m3, grad_b3, zero)
    dense = torch.cat([piece.flatten(1) for piece in pieces], 1)
    tied = dense.index_select(1, kernel.occurrences.flatten()).unflatten(1, kernel.occurrences.shape).sum(-1)
    return Gradient(loss, correct, torch.cat([tied, classifier_gradient], 1))


def _dense(kernel: Kernel, theta: Tensor) -> list[Tensor]:
    """M1 (S, W, d + 1) with b1 as its last column, M2 (S, W, W), b2 (S, W, 1), M3 (S, d, W), b3 (S, d, 1)."""
    d, w = kernel.dim, kernel.width
    padded = torch.cat([theta, theta.new_zeros(len(theta), 1)], 1)
    shapes = ((w, d + 1), (w, w), (w, 1), (d, w), (d, 1))
    return [padded.index_select(1, i).view(-1, *shape) for i, shape in zip(kernel.entries, shapes, strict=True)]


def _classifier(kernel: Kernel, theta: Tensor) -> tuple[Tensor, Tensor]:
    c, d = kernel.n_classes, kernel.dim
    tail = theta[:, -(c * d + c) :]
    return tail[:, : c * d].unflatten(1, (c, d)), tail[:, c * d :, None]


def _classify(kernel: Kernel, theta: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean cross-entropy, hits, its gradient with respect to z (S, d, B) and to the classifier's parameters."""
    weight, bias = _classifier(kernel, theta)
    logits = torch.baddbmm(bias, weight, z)
    log_p = logits.log_softmax(1)
    loss = -log_p.gather(1, y[:, None]).mean((1, 2))
    correct = (logits.argmax(1) == y).sum(-1)
    residual = log_p.exp()
    residual.scatter_add_(1, y[:, None], residual.new_full((1, 1, 1), -1.0).expand(len(y), 1, y.shape[1]))
    residual /= y.shape[1]
    slope = torch.bmm(weight.mT, residual)
    gradient = torch.cat([torch.bmm(residual, z.mT).flatten(1), residual.sum(-1)], 1)
    return loss, correct, slope, gradient


def _buffers(kernel: Kernel, batch: int, evaluations: int, stages: int) -> dict[str, Any]:
    """Arrays of one sweep, made once and again only when a solve is longer than any before."""
    buffers = kernel.buffers
    if buffers.get("batch") == batch and buffers["stages"] == stages and buffers["evaluations"] >= evaluations:
        return buffers
    if buffers.get("batch") == batch and buffers["stages"] == stages:
        evaluations = max(evaluations, buffers["evaluations"] * 5 // 4)  # step adaptation grows in small steps
    s, d, w = kernel.n_seeds, kernel.dim, kernel.width

    def empty(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=kernel.dtype, device=kernel.device)

    y = empty(evaluations + 1, s, d + 1, batch)
    y[:, :, d] = 1.0
    h2 = empty(evaluations, s, w, batch)
    gk = empty(evaluations, s, d, batch)
    kernel.buffers = {
        "batch": batch,
        "stages": stages,
        "evaluations": evaluations,
        "y": y.unbind(),
        "z": y[:, :, :d].unbind(),
        "h2": h2.unbind(),
        "h2t": h2.mT.unbind(),
        "gk": gk.unbind(),
        "gk_all": gk,
        "k": empty(stages, s, d, batch).unbind(),
        "gy": empty(stages, s, d, batch).unbind(),
        "h1": empty(s, w, batch),
        "g1": empty(s, w, batch),
        "g2": empty(s, w, batch),
        "sum2": empty(s, w, batch),
        "grad_m1t": empty(s, d + 1, w),
        "grad_m2": empty(s, w, w),
        "grad_m3": empty(s, d, w),
    }
    return kernel.buffers


# -- using the trained parameters -----------------------------------------------------------------------------------


def state_dict(kernel: Kernel, theta: Tensor) -> dict[str, Tensor]:
    """One seed's parameters (P,) under the names of its model, for `load_state_dict`."""
    pieces = theta.split([shape.numel() for shape in kernel.shapes])
    return {n: p.view(s).clone() for n, p, s in zip(kernel.names, pieces, kernel.shapes, strict=True)}


def field_of(kernel: Kernel, theta: Tensor) -> solvers.Field:
    """The fields of all seeds of theta (S, P), as one field on columns (S, d, n). No gradients."""
    m1, m2, b2, m3, b3 = _dense(kernel, theta)
    act = ACTIVATIONS[kernel.activation][0]
    weight, bias = m1[:, :, : kernel.dim].contiguous(), m1[:, :, kernel.dim :]

    def f(z: Tensor) -> Tensor:
        return torch.baddbmm(b3, m3, act(torch.baddbmm(b2, m2, act(torch.baddbmm(bias, weight, z)))))

    return f


@torch.no_grad()
def logits(kernel: Kernel, theta: Tensor, x: Tensor, solver: str, step_size: float) -> tuple[Tensor, int]:
    """Logits (S, n, n_classes) of x, (n, d) or (S, n, d), under any fixed-step solver, and the evaluations of a solve.

    Not for adaptive solvers: the seeds would share their steps.
    """
    if SOLVERS[solver].adaptive:
        raise ValueError(f"{solver} would share its steps between the seeds")
    z = x.to(kernel.dtype).expand(len(theta), *x.shape[-2:]).mT.contiguous()
    z, evaluations = solvers.solve(field_of(kernel, theta), z, solver, step_size=step_size)
    weight, bias = _classifier(kernel, theta)
    return torch.baddbmm(bias, weight, z).mT, evaluations.forward


def from_state_dicts(kernel: Kernel, state_dicts: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """theta (S, P) of trained models."""
    rows = [torch.cat([d[name].flatten() for name in kernel.names]) for d in state_dicts]
    return torch.stack(rows).to(kernel.dtype)
