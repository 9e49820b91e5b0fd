"""Statements of the theory with a value to compare with: closed forms, the ReLU counter-example, Euler's method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprod.run import Run
from reprod.training import torch_stream

from . import network, rates
from .config import ResnetTheory
from .network import Descent, Law, Weights


@dataclass(frozen=True)
class Check:
    """`value` is ours, `expected` the theory's; they agree within `tolerance` (absolute)."""

    name: str
    says: str
    value: float
    expected: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return bool(abs(self.value - self.expected) <= self.tolerance)


# -- closed forms of the synthetic task -------------------------------------------------------------------------------


def first_step(seed: int, n: int, d: int, m: int, rate: float = 0.01) -> list[Check]:
    """After one step V_k = -(2 rate / (n d)) gelu(X W)^T (X - Y) for every k and L, and W_k = W; before it
    loss = mean (X - Y)^2 and L sum_k |dloss/dZ_k|^2 = (|V(1)|_F / rate)^2."""
    depths = (2, 16, 128)
    W = network.problem(seed, n, d, m)[0].double()
    X, Y, nets = network.initial([seed], depths, n=n, d=d, m=m)
    expected = -2 * rate / (n * d) * network.sigma("gelu")(X[0] @ W).T @ (X[0] - Y[0])
    loss, squares = Descent(Law(rate=rate), X, Y, nets).step()
    worst = max(float((net.V[0] - expected).norm(dim=(1, 2)).max() / expected.norm()) for net in nets)
    moved = max(float((net.W[0] - W).abs().max()) for net in nets)
    energy = np.array(depths) * squares[:, 0]
    initial = float((X - Y).square().mean())
    wanted = float((expected.norm() / rate) ** 2)
    return [
        Check("first_step", "relative distance of V_k(1) to its closed form, worst k and L", worst, 0.0, 1e-12),
        Check("first_step_w", "W_k(1) - W, worst entry", moved, 0.0, 0.0),
        Check("initial_loss", "loss before the first step, worst L", float(loss.max()), initial, 1e-12),
        Check("initial_energy", "L sum_k |dloss/dZ_k|^2, largest L", float(energy[-1]), wanted, 1e-10 * wanted),
        Check("energy_spread", "the same, spread over L", float(np.ptp(energy)), 0.0, 1e-10 * wanted),
    ]


def loss_converges(seed: int, n: int, d: int, m: int, iterations: int = 50) -> list[Check]:
    """|loss^L - loss^{2L}| halves when L doubles."""
    X, Y, nets = network.initial([seed], (32, 64, 128, 256), n=n, d=d, m=m)
    descent = Descent(Law(), X, Y, nets)
    for _ in range(iterations):
        loss, _ = descent.step()
    gaps = np.abs(np.diff(loss[:, 0]))
    return [
        Check("loss_halves", "|loss^128 - loss^256| over |loss^64 - loss^128|", float(gaps[2] / gaps[1]), 0.5, 0.02)
    ]


def control(seed: int, n: int, d: int, m: int, iterations: int = 20) -> list[Check]:
    """Independent W: neighbours are |dW|_F = sqrt(2 d m) apart at every depth, there is no 1/L law."""
    depths = (16, 64, 256)
    X, Y, nets = network.initial([seed], depths, n=n, d=d, m=m, init="iid")
    descent = Descent(Law(), X, Y, nets)
    for _ in range(iterations):
        descent.step()
    mean = [float((net.W[0, 1:] - net.W[0, :-1]).norm(dim=(1, 2)).mean()) for net in nets]
    slope = rates.against_depth(np.array(depths), np.array([network.increments(net)[0, 2] for net in nets])).value
    wanted = float(np.sqrt(2 * d * m))
    return [
        Check("iid_increment", "mean_k |W_{k+1} - W_k|_F at L = 256, independent W", mean[-1], wanted, 0.03 * wanted),
        Check("iid_slope", "exponent of L of the largest increment, independent W", slope, 0.0, 0.1),
    ]


def process_increments(seed: int, lengthscale: float, depth: int = 256, entries: int = 2000) -> list[Check]:
    """Gaussian-process weights: the rms increment of an entry is sqrt(2 (1 - exp(-1/(2 lengthscale^2 L^2))))."""
    s = torch.arange(1, depth + 1, dtype=torch.float64) / depth
    path = network.gaussian_process(s, (entries,), lengthscale, torch_stream(seed, "check/gp"))
    found = float((path[1:] - path[:-1]).square().mean().sqrt())
    expected = float(np.sqrt(-2 * np.expm1(-1 / (2 * lengthscale**2 * depth**2))))
    return [Check("gp_increment", "rms increment of an entry", found, expected, 0.1 * expected)]


def scalar_linear(depth: int = 16, rate: float = 1e-3, iterations: int = 2000, w: float = 0.7) -> list[Check]:
    """d = m = n = 1, identity: weights stay tied (but for rounding), F = x (1 + w v / L)^L, w^2 - v^2 is conserved."""
    X, Y = torch.ones(1, 1, 1, dtype=torch.float64), torch.full((1, 1, 1), 2.0, dtype=torch.float64)
    net = Weights(torch.zeros(1, depth, 1, 1, dtype=torch.float64), torch.full((1, depth, 1, 1), w).double())
    law = Law("identity", rate=rate)
    descent = Descent(law, X, Y, [net])
    for _ in range(iterations):
        descent.step()
    v, u = net.V.flatten(), net.W.flatten()
    F = float(network.forward(law, X, net)[-1])
    closed = float((1 + u[0] * v[0] / depth) ** depth)
    tied = float((v - v[0]).abs().max() + (u - u[0]).abs().max())
    return [
        Check("scalar_tied", "largest difference of two layers of the scalar linear net", tied, 0.0, 1e-12),
        Check("scalar_output", "output of the scalar linear net", F, closed, 1e-12),
        Check("scalar_invariant", "w^2 - v^2 after training", float(u[0] ** 2 - v[0] ** 2), w * w, 2e-3),
    ]


# -- ReLU counter-example ---------------------------------------------------------------------------------------------


def counterexample(L: int, C: float, rate: float = 0.005, iterations: int = 4000) -> tuple[np.ndarray, list[Check]]:
    """h <- h + relu(w_k h)/(2L), k = 1 ... 2L, w_k(0) = (-1)^k/(2L), one sample (1, C), loss (h - C)^2.

    Layers with w_k < 0 have no gradient and never move; the others tend to w* = 2L (C^(1/L) - 1) >= 2 log C: neighbours
    come to lie a distance of order 1 apart. Returns the weights at 101 recorded iterations, (101, 2L), and the checks.
    """
    k = np.arange(1, 2 * L + 1)
    w = (-1.0) ** k / (2 * L)
    start = w.copy()
    records = [w.copy()]
    for iteration in range(1, iterations + 1):
        factor = 1 + np.maximum(w, 0) / (2 * L)
        h = factor.prod()  # x = 1 and all states are positive
        gradient = 2 * (h - C) * h / factor * (w > 0) / (2 * L)
        w = w - rate * (2 * L) * gradient
        if iteration % (iterations // 100) == 0:
            records.append(w.copy())
    limit = 2 * L * (C ** (1 / L) - 1)
    odd, even = w[0::2], w[1::2]
    gap = float(np.abs(np.diff(w)).max())
    return np.array(records), [
        Check(
            "relu_negative", "largest move of a layer that starts negative", float(abs(odd - start[::2]).max()), 0, 0
        ),
        Check("relu_positive", "a layer that starts positive, at the end", float(even.mean()), limit, 1e-6),
        Check("relu_gap", "largest distance of two neighbours, at the end", gap, limit + 1 / (2 * L), 1e-6),
    ]


# -- Euler's method ---------------------------------------------------------------------------------------------------


def euler_limit(
    seed: int, depths: Sequence[int], lengthscale: float, n: int, d: int, m: int
) -> tuple[np.ndarray, np.ndarray, list[Check]]:
    """With weights Z_k = Z(k/L) of a smooth Z, |F^L - F_ODE| is of order 1/L (their proposition 2), and the net is
    Euler's method with L steps, to the last bit, for the ODE of piecewise constant weights.

    Returns max |F^L - F_ODE| and max |F^L - Euler| for each depth, and the checks. Weights are scaled as scaling=paper.
    """
    from torchdiffeq import odeint

    X = network.problem(seed, n, d, m)[1].double()
    law = Law(scaling="paper")
    inner, outer, _ = law.factors(n, d, m, 1)

    def smooth(s: Tensor) -> tuple[Tensor, Tensor]:
        V = network.gaussian_process(s, (m, d), lengthscale, torch_stream(seed, "limit/V"))
        return V, network.gaussian_process(s, (d, m), lengthscale, torch_stream(seed, "limit/W"))

    def limit(s: Tensor, h: Tensor) -> Tensor:
        V, W = smooth(s.reshape(1))
        return outer * network.sigma("gelu")(inner * h @ W[0]) @ V[0]

    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    solution = odeint(limit, X, ends, method="dopri5", rtol=1e-11, atol=1e-11)[-1]
    errors, differences = [], []
    for L in depths:
        V, W = smooth(torch.arange(L, dtype=torch.float64) / L)
        out = network.forward(law, X[None], Weights(V[None], W[None]))[-1, 0]
        errors.append(float((out - solution).abs().max()))
        differences.append(float((_by_torchdiffeq(law, X, V, W) - _plain(law, X, V, W)).abs().max()))
    slope = rates.against_depth(np.array(depths), np.array(errors)).value
    checks = [
        Check("euler_slope", "exponent of L of |F^L - F_ODE|", slope, -1.0, 0.05),
        Check("euler_equal", "largest |F^L - Euler's method of torchdiffeq|, all L", max(differences), 0.0, 0.0),
    ]
    return np.array(errors), np.array(differences), checks


def _by_torchdiffeq(law: Law, X: Tensor, V: Tensor, W: Tensor) -> Tensor:
    """torchdiffeq's Euler method on the ODE whose weights are constant on [k/L, (k + 1)/L). The layer index is the
    nearest integer to s L: cutting off goes wrong where k/L rounds down."""
    from torchdiffeq import odeint

    L = len(V)
    inner, outer, _ = law.factors(1, W.shape[1], W.shape[2], 1)

    def field(s: Tensor, h: Tensor) -> Tensor:
        k = round(float(s) * L)
        return outer * (network.sigma(law.sigma)(inner * h @ W[k]) @ V[k])

    return odeint(field, X, torch.linspace(0, 1, L + 1, dtype=torch.float64), method="euler")[-1]


def _plain(law: Law, X: Tensor, V: Tensor, W: Tensor) -> Tensor:
    """The network in the order of operations that Euler's method has, so that the two can agree to the last bit."""
    L = len(V)
    inner, outer, _ = law.factors(1, W.shape[1], W.shape[2], 1)
    s = torch.linspace(0, 1, L + 1, dtype=torch.float64)
    h = X
    for k in range(L):
        h = h + (s[k + 1] - s[k]) * (outer * (network.sigma(law.sigma)(inner * h @ W[k]) @ V[k]))
    return h


# -- the experiment ---------------------------------------------------------------------------------------------------


def check_theory(config: ResnetTheory, run: Run) -> None:
    """Closed forms and limits that the code must meet (spec section 5)."""
    run.each_seed(_check_theory)


def _check_theory(config: ResnetTheory, run: Run) -> None:
    seed = config.seeds[0]
    sizes = {"n": config.n_train, "d": config.dim, "m": config.width}
    weights, relu = counterexample(config.half_depth, config.target)
    about = "weights w_k of the ReLU net at recorded iterations, from the start"
    run.array("relu_weights", weights, axes=("record", "k"), about=about, exact=True)
    errors, differences, euler = euler_limit(seed, config.depths, config.lengthscale, **sizes)
    limit = pd.DataFrame({"depth": config.depths, "error": errors, "difference": differences})
    about = (
        "error: max |F^L - F_ODE| over samples and coordinates, F_ODE by dopri5 of torchdiffeq at tolerance 1e-11; "
        "difference: max |F^L - Euler's method of torchdiffeq on the ODE of piecewise constant weights|"
    )
    run.table("euler", limit, about=about)
    checks = [
        *first_step(seed, **sizes),
        *loss_converges(seed, **sizes),
        *scalar_linear(),
        *process_increments(seed, config.lengthscale),
        *control(seed, **sizes),
        *relu,
        *euler,
    ]
    frame = pd.DataFrame([{**dataclasses.asdict(check), "passed": check.passed} for check in checks])
    run.table("checks", frame, about="value is ours, expected the theory's; they agree within tolerance (absolute)")
    run.log(0, {"checks/passed": float(frame.passed.sum()), "checks/failed": float((~frame.passed).sum())})
