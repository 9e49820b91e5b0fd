"""The scaled residual network and its gradient descent (Marion et al. 2024, sections 2 to 4).

    H_0 = X,   H_{k+1} = H_k + outer sigma(inner H_k W_k) V_k,   k = 0 ... L-1,   loss = unit sum (H_L - Y)^2
    Z_k <- Z_k - rate pi(L dloss/dZ_k)        Z = V, W;  pi clips to [-clip, clip], or does nothing

    scaling "code" (the figures):   outer = 1/L,           inner = 1,          unit = 1/(n d)
    scaling "paper" (the theory):   outer = 1/(L sqrt m),  inner = 1/sqrt d,   unit = 1/n

Rows are samples: X, Y (S, n, d) for S seeds at once, V (S, L, m, d), W (S, L, d, m). The paper's columns are the
transposes. A and B of the paper are the identity. Gradients come from a reverse sweep written by hand, which updates
the weights layer by layer; the torch form here is the reference, `kernels` the compiled one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from reprod.machine import share
from reprod.training import torch_stream

SIGMAS = ("gelu", "relu", "identity", "tanh")


def sigma(name: str) -> Callable[[Tensor], Tensor]:
    """The activation; GELU is x Phi(x) with the exact Phi. Raises `KeyError` for an unknown name."""
    return {
        "gelu": nn.functional.gelu,
        "relu": torch.relu,
        "identity": lambda a: a,
        "tanh": torch.tanh,
    }[name]


def sigma_prime(name: str) -> Callable[[Tensor], Tensor]:
    """Its derivative; for ReLU 0 at 0. GELU: Phi(a) + a phi(a)."""
    return {
        "gelu": lambda a: torch.special.ndtr(a) + a * torch.exp(-a * a / 2) / math.sqrt(2 * math.pi),
        "relu": lambda a: (a > 0).to(a.dtype),
        "identity": torch.ones_like,
        "tanh": lambda a: 1 - torch.tanh(a) ** 2,
    }[name]


@dataclass(frozen=True)
class Law:
    """What is trained and how: activation, scaling, step and clipping of the flow."""

    sigma: str = "gelu"
    scaling: str = "code"
    rate: float = 0.01
    clip: float | None = None

    def factors(self, n: int, d: int, m: int, depth: int) -> tuple[float, float, float]:
        """(inner, outer, unit) of the module's docstring."""
        if self.scaling == "code":
            return 1.0, 1 / depth, 1 / (n * d)
        return 1 / math.sqrt(d), 1 / (depth * math.sqrt(m)), 1 / n


@dataclass(frozen=True)
class Weights:
    """V (S, L, m, d) and W (S, L, d, m) of one depth, S seeds."""

    V: Tensor
    W: Tensor

    @property
    def depth(self) -> int:
        return self.V.shape[1]


# -- data and initial weights -----------------------------------------------------------------------------------------


def problem(seed: int, n: int, d: int, m: int, *, spare: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """W (d, m), X and Y (n, d) in float32, standard normal, in the order in which the released scripts draw them.

    `spare`: the script of the long run draws an unused (d, d) matrix behind W.
    """
    generator = torch.Generator().manual_seed(seed)  # no named stream: parity with the released scripts, to the bit
    W = torch.randn(d, m, generator=generator)
    if spare:
        torch.randn(d, d, generator=generator)
    return W, torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)


def gaussian_process(s: Tensor, shape: Sequence[int], lengthscale: float, generator: torch.Generator) -> Tensor:
    """Independent centred Gaussian processes with covariance exp(-(s - s')^2 / (2 lengthscale^2)) at s (L,) in [0, 1].

    Returns (L, *shape) in float64. A process is drawn as a function: nets of all depths share it. It is the conditional
    mean given its values on a grid so fine that the conditional variance is below 1e-10.
    """
    grid = torch.linspace(0, 1, max(16, math.ceil(8 / lengthscale)), dtype=torch.float64)

    def covariance(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-((a[:, None] - b[None, :]) ** 2) / (2 * lengthscale**2))

    values, vectors = torch.linalg.eigh(covariance(grid, grid))
    kept = values > 1e-12 * values[-1]
    basis = covariance(s.double(), grid) @ vectors[:, kept] / values[kept].sqrt()
    noise = torch.randn(len(values), math.prod(shape), generator=generator, dtype=torch.float64)[kept]
    return (basis @ noise).reshape(len(s), *shape)


def initial_W(init: str, W: Tensor, depth: int, seed: int, lengthscale: float) -> Tensor:
    """W_k(0) (L, d, m), float64: `tied` copies of W, `iid` independent N(0, 1), or `gp`, a smooth function of k/L."""
    if init == "tied":
        return W.double().repeat(depth, 1, 1)
    if init == "iid":
        return torch.randn(depth, *W.shape, generator=torch_stream(seed, f"init/iid/{depth}"), dtype=torch.float64)
    s = torch.arange(1, depth + 1, dtype=torch.float64) / depth
    return gaussian_process(s, W.shape, lengthscale, torch_stream(seed, "init/gp"))


def initial(
    seeds: Sequence[int],
    depths: Sequence[int],
    *,
    n: int,
    d: int,
    m: int,
    init: str = "tied",
    lengthscale: float = 0.5,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    spare: bool = False,
) -> tuple[Tensor, Tensor, list[Weights]]:
    """X, Y (S, n, d) and the weights of every depth: V = 0, W as `init` says."""
    drawn = [problem(seed, n, d, m, spare=spare) for seed in seeds]
    X, Y = (torch.stack([each[i] for each in drawn]).to(device, dtype) for i in (1, 2))
    nets = []
    for depth in depths:
        each = [initial_W(init, W, depth, s, lengthscale) for s, (W, _, _) in zip(seeds, drawn, strict=True)]
        W = torch.stack(each).to(device, dtype)
        nets.append(Weights(torch.zeros(len(drawn), depth, m, d, dtype=dtype, device=device), W))
    return X, Y, nets


# -- forward, reverse sweep -------------------------------------------------------------------------------------------


def forward(law: Law, X: Tensor, weights: Weights, H: Tensor | None = None) -> Tensor:
    """The states H (L + 1, S, n, d), into `H` if given."""
    V, W = weights.V, weights.W
    inner, outer, _ = law.factors(X.shape[1], X.shape[2], W.shape[3], weights.depth)
    activate = sigma(law.sigma)
    states = X.new_empty(weights.depth + 1, *X.shape) if H is None else H
    states[0] = X
    for k in range(weights.depth):
        S = activate(inner * torch.bmm(states[k], W[:, k]))
        torch.baddbmm(states[k], S, V[:, k], alpha=outer, out=states[k + 1])
    return states


def sweep(
    law: Law,
    X: Tensor,
    Y: Tensor,
    weights: Weights,
    use: Callable[[int, Tensor, Tensor], None],
    H: Tensor | None = None,
) -> Tensor:
    """The loss (S,), handing dloss/dV_k (S, m, d) and dloss/dW_k (S, d, m) to `use(k, dV_k, dW_k)`, k = L-1 ... 0.

    `use` may change layer k: the sweep has done with it.

        G_L = 2 unit (H_L - Y);   S_k = sigma(A_k),  A_k = inner H_k W_k
        dV_k = outer S_k^T G_{k+1};   E_k = outer (G_{k+1} V_k^T) * sigma'(A_k)
        dW_k = inner H_k^T E_k;       G_k = G_{k+1} + inner E_k W_k^T
    """
    V, W = weights.V, weights.W
    inner, outer, unit = law.factors(X.shape[1], X.shape[2], W.shape[3], weights.depth)
    activate, derivative = sigma(law.sigma), sigma_prime(law.sigma)
    states = forward(law, X, weights, H)
    error = states[-1] - Y
    G = 2 * unit * error
    for k in range(weights.depth - 1, -1, -1):
        A = inner * torch.bmm(states[k], W[:, k])
        dV = outer * torch.bmm(activate(A).mT, G)
        E = outer * torch.bmm(G, V[:, k].mT) * derivative(A)
        dW = inner * torch.bmm(states[k].mT, E)
        G = torch.baddbmm(G, E, W[:, k].mT, alpha=inner)
        use(k, dV, dW)
    return unit * error.square().sum((1, 2))


def gradients(law: Law, X: Tensor, Y: Tensor, weights: Weights, kernel: str = "torch") -> tuple[Tensor, Tensor, Tensor]:
    """The loss (S,) and its gradients, shaped like V and W."""
    dV, dW = torch.empty_like(weights.V), torch.empty_like(weights.W)
    if kernel == "numba":
        losses = [_compiled(law, X[s], Y[s], weights, s, (dV[s], dW[s]))[0] for s in range(len(X))]
        return torch.tensor(losses, dtype=X.dtype), dV, dW

    def keep(k: int, dV_k: Tensor, dW_k: Tensor) -> None:
        dV[:, k], dW[:, k] = dV_k, dW_k

    return sweep(law, X, Y, weights, keep), dV, dW


def _compiled(
    law: Law,
    X: Tensor,
    Y: Tensor,
    weights: Weights,
    s: int,
    into: tuple[Tensor, Tensor] | None,
    room: tuple[Tensor, ...] | None = None,
) -> tuple[float, float]:
    """`kernels.sweep` of seed s: into the gradient, or as a step in place; `room`: see `_room`."""
    from . import kernels

    V, W = weights.V[s].numpy(), weights.W[s].numpy()
    n, d = X.shape
    kind = V.dtype.type
    inner, outer, unit = law.factors(n, d, W.shape[2], len(W))
    H, S, D = (part.numpy() for part in room or _room(X, len(W), W.shape[2]))
    none = np.empty((0, 0, 0), V.dtype)
    dV, dW = (none, none) if into is None else (into[0].numpy(), into[1].numpy())
    clip = kind(np.inf if law.clip is None else law.clip)
    numbers = kind(inner), kind(outer), kind(unit), kind(law.rate), clip, kernels.ACTIVATIONS[law.sigma]
    return kernels.sweep(X.numpy(), Y.numpy(), V, W, H, S[: len(W)], D[: len(W)], dV, dW, *numbers)


KEPT = 512  # layers whose activations the compiled sweep keeps from the forward to the reverse pass


def _room(X: Tensor, depth: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the states of all layers of one network, and for the activations and derivatives of the last `KEPT`."""
    kept = min(depth, KEPT), len(X), m
    return X.new_empty(depth + 1, *X.shape), X.new_empty(kept), X.new_empty(kept)


# -- gradient descent of several depths in lock-step ------------------------------------------------------------------


class Descent:
    """Gradient descent on all depths and seeds at once, in place.

    `step()` returns the loss and the squared norm of its gradient, each (depths, seeds), *before* the step. Memory is
    that of the weights and of one forward pass, whatever the number of iterations.
    """

    def __init__(self, law: Law, X: Tensor, Y: Tensor, nets: Sequence[Weights], kernel: str = "auto"):
        self.law, self.X, self.Y, self.nets = law, X, Y, list(nets)
        self.kernel = choose(kernel, law.sigma, X.device.type)
        self.threads = torch.get_num_threads() if self.kernel == "numba" else 1

    @cached_property
    def _rooms(self) -> list[tuple[Tensor, ...]]:
        """Room for one pass of the deepest net; numba: for each thread its own."""
        deepest = max(net.depth for net in self.nets)
        if self.kernel == "torch":
            return [(self.X.new_empty(deepest + 1, *self.X.shape),)]
        return [_room(self.X[0], deepest, self.nets[0].W.shape[3]) for _ in range(self.threads)]

    def step(self) -> tuple[np.ndarray, np.ndarray]:
        shape = len(self.nets), len(self.X)
        loss, squares = np.empty(shape), np.empty(shape)
        if self.kernel == "torch":
            for i, net in enumerate(self.nets):
                loss[i], squares[i] = self._torch_step(net)
            return loss, squares
        tasks = sorted(np.ndindex(*shape), key=lambda task: -self.nets[task[0]].depth)

        def work(first: int) -> None:
            for i, s in tasks[first :: self.threads]:
                net = self.nets[i]
                room = self._rooms[first]
                loss[i, s], squares[i, s] = _compiled(self.law, self.X[s], self.Y[s], net, s, None, room)

        share(work, self.threads)
        return loss, squares

    def _torch_step(self, net: Weights) -> tuple[np.ndarray, np.ndarray]:
        squares = torch.zeros(len(self.X), dtype=torch.float64, device=self.X.device)
        rate, clip, depth = self.law.rate, self.law.clip, net.depth

        def descend(k: int, dV: Tensor, dW: Tensor) -> None:
            squares.add_(dV.square().sum((1, 2)) + dW.square().sum((1, 2)))
            for Z, dZ in ((net.V, dV), (net.W, dW)):
                flow = dZ * depth if clip is None else (dZ * depth).clamp_(-clip, clip)
                Z[:, k].sub_(flow, alpha=rate)

        loss = sweep(self.law, self.X, self.Y, net, descend, self._rooms[0][0][: depth + 1])
        return loss.cpu().numpy(), squares.cpu().numpy()

    def healthy(self) -> bool:
        """All weights of some seed are finite (a step that diverges soon fills them with infinities)."""
        return bool(self.finite().any())

    def finite(self) -> np.ndarray:
        """For each seed, whether its nets of all depths are finite."""
        good = [torch.isfinite(net.V).all((1, 2, 3)) & torch.isfinite(net.W).all((1, 2, 3)) for net in self.nets]
        return torch.stack(good).all(0).cpu().numpy()


def choose(kernel: str, activation: str, device: str = "cpu") -> str:
    """`auto`: the compiled kernel on a processor where it knows the activation, else torch."""
    if kernel != "auto":
        return kernel
    return "numba" if activation in ("gelu", "relu", "identity") and device == "cpu" else "torch"


# -- distances --------------------------------------------------------------------------------------------------------

INCREMENTS = ("max |dV|", "max |dW|", "max (|dV| + |dW|)", "sum |dV|^2", "sum |dW|^2")


def increments(weights: Weights, kernel: str = "torch") -> np.ndarray:
    """`INCREMENTS` over neighbouring layers, Frobenius norms; (S, 5). A net of one layer has none: zeros."""
    out = np.zeros((len(weights.V), 5))
    if kernel == "numba":
        from . import kernels

        for s in range(len(out)):
            kernels.increments(weights.V[s].numpy(), weights.W[s].numpy(), out[s])
        return out
    if weights.depth == 1:
        return out
    v, w = ((Z[:, 1:] - Z[:, :-1]).flatten(2).norm(dim=2) for Z in (weights.V, weights.W))
    parts = [v.amax(1), w.amax(1), (v + w).amax(1), v.square().sum(1), w.square().sum(1)]
    return torch.stack(parts, dim=1).double().cpu().numpy()


def pairs(align: str, depth: int, reference: int) -> tuple[np.ndarray, np.ndarray]:
    """Which layers of a net are compared with which of the reference, 0-based.

    `left` (the released script): layer i with layer floor(i reference / depth), i < depth.
    `paper`: both are step functions Z_{floor((L-1) s)} of s, compared at s = j/(reference - 1), all j.
    """
    if align == "left":
        own = np.arange(depth)
        return own, own * reference // depth
    other = np.arange(reference)
    return (depth - 1) * other // max(reference - 1, 1), other


def distances(
    weights: Weights, reference: Weights, own: np.ndarray, other: np.ndarray, kernel: str = "torch"
) -> np.ndarray:
    """d_V, d_W and sup, (S, 3): root mean square over the pairs of |V_i - Vref_j|_F, the same for W, and the largest
    |V_i - Vref_j|_F + |W_i - Wref_j|_F."""
    out = np.zeros((len(weights.V), 3))
    if kernel == "numba":
        from . import kernels

        for s in range(len(out)):
            arrays = (Z[s].numpy() for Z in (weights.V, weights.W, reference.V, reference.W))
            V, W, Vref, Wref = arrays
            kernels.distances(V, W, own, Vref, Wref, other, out[s])
    else:
        for first in range(0, len(own), 1024):
            i, j = (torch.from_numpy(part[first : first + 1024]) for part in (own, other))
            v = (weights.V[:, i] - reference.V[:, j]).flatten(2).norm(dim=2)
            w = (weights.W[:, i] - reference.W[:, j]).flatten(2).norm(dim=2)
            out[:, 0] += v.square().sum(1).cpu().numpy() / len(own)
            out[:, 1] += w.square().sum(1).cpu().numpy() / len(own)
            out[:, 2] = np.maximum(out[:, 2], (v + w).amax(1).cpu().numpy())
    out[:, :2] = np.sqrt(out[:, :2])
    return out


# -- the trained network as a module ----------------------------------------------------------------------------------


class ResidualNetwork(nn.Module):
    """The network of one seed and depth: x (n, d) -> H_L (n, d)."""

    exportable = False  # an unrolled graph of a thousand layers takes minutes to export

    def __init__(self, depth: int, d: int, m: int, sigma: str, scaling: str, dtype: str):
        super().__init__()
        self.law = Law(sigma, scaling)
        kind = {"float32": torch.float32, "float64": torch.float64}[dtype]
        self.V = nn.Parameter(torch.zeros(depth, m, d, dtype=kind))
        self.W = nn.Parameter(torch.zeros(depth, d, m, dtype=kind))

    def forward(self, x: Tensor) -> Tensor:
        depth, m, d = self.V.shape
        inner, outer, _ = self.law.factors(1, d, m, depth)
        activate, h = sigma(self.law.sigma), x.to(self.V.dtype)
        for k in range(depth):
            h = h + outer * activate(inner * h @ self.W[k]) @ self.V[k]
        return h
