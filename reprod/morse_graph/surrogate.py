"""The surrogate of training: a Gaussian process from early to final weights (Eslami et al. 2021).

Zero prior mean, targets as they are, one set of hyperparameters for all outputs:

    k(x, x') = exp(-|x - x'|^2 / (2 l^2)) + w [x = x'],   l in (0.01, 2) from 0.5,   w in (1e-5, 1e5) from 1,
    f(x) = k(x, X) [K + w I]^-1 Y,   v(x) = 1 - k(x, X) [K + w I]^-1 k(X, x),

fitted by scikit-learn (L-BFGS-B on the log marginal likelihood summed over outputs, no restarts, jitter 1e-10). v is
the *latent* variance: scikit-learn's `return_std` includes w, this one does not.

On a tensor grid the squared exponential is a product over coordinates, so f costs one matrix product there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from scipy.linalg import cho_factor, solve_triangular
from scipy.stats import norm

JITTER = 1e-10
BLOCK = 16_384


@dataclass(frozen=True)
class Surrogate:
    """Posterior of the Gaussian process. Calling it gives the mean.

    X (n, d), Y (n, m): training pairs; length l; noise w; lml: log marginal likelihood; weights (n, m):
    [K + w I]^-1 Y; factor (n, n): the lower Cholesky factor of K + w I; identity: the prior mean is x, not 0.
    """

    X: np.ndarray
    Y: np.ndarray
    length: float
    noise: float
    lml: float
    weights: np.ndarray
    factor: np.ndarray
    identity: bool = False

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Posterior mean (n, m) at points (n, d)."""
        points = np.asarray(points, dtype=float)
        blocks = [points[i : i + BLOCK] for i in range(0, len(points), BLOCK)]
        mean = np.concatenate([self._kernel(b) @ self.weights for b in blocks])
        return mean + points if self.identity else mean

    def deviation(self, points: np.ndarray) -> np.ndarray:
        """Latent standard deviation sqrt(v), (n, 1), at points (n, d)."""
        points = np.asarray(points, dtype=float)
        blocks = [points[i : i + BLOCK] for i in range(0, len(points), BLOCK)]
        explained = [
            (solve_triangular(self.factor, self._kernel(b).T, lower=True, check_finite=False) ** 2).sum(axis=0)
            for b in blocks
        ]
        return np.sqrt(np.maximum(0.0, 1.0 - np.concatenate(explained)))[:, None]

    def on_grid(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Posterior mean on a tensor grid, (n_1, ..., n_d, m)."""
        shape = tuple(len(a) for a in axes)
        factors = [np.exp(-0.5 * ((a[:, None] - self.X[:, k]) / self.length) ** 2) for k, a in enumerate(axes)]
        front = factors[0]
        for factor in factors[1:-1]:  # (points so far, n)
            front = (front[:, None, :] * factor[None, :, :]).reshape(-1, len(self.X))
        if len(factors) == 1:
            mean = front @ self.weights
        else:
            columns = [(front * self.weights[:, j]) @ factors[-1].T for j in range(self.weights.shape[1])]
            mean = np.stack([c.ravel() for c in columns], axis=1)
        mean = mean.reshape(*shape, -1)
        return mean + np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) if self.identity else mean

    def _kernel(self, points: np.ndarray) -> np.ndarray:
        square = np.zeros((len(points), len(self.X)))
        for k in range(self.X.shape[1]):
            square += (points[:, k, None] - self.X[None, :, k]) ** 2
        square *= -0.5 / self.length**2
        return np.exp(square, out=square)


def fit(X: np.ndarray, Y: np.ndarray, *, identity: bool = False) -> Surrogate:
    """Fits the process to pairs X (n, d), Y (n, m); with `identity` to the displacements Y - X (prior mean x).

    Raises:
        ValueError: X and Y of different lengths, or `identity` with d != m.
    """
    if len(X) != len(Y) or X.ndim != 2 or Y.ndim != 2:
        raise ValueError(f"X and Y need one row for each network, got shapes {X.shape} and {Y.shape}")
    if identity and X.shape != Y.shape:
        raise ValueError(f"a displacement needs X and Y of one shape, got {X.shape} and {Y.shape}")
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    X, Y = np.asarray(X, dtype=float), np.asarray(Y, dtype=float)
    process = GaussianProcessRegressor(RBF(0.5, (0.01, 2)) + WhiteKernel(), alpha=JITTER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # l at its bound 2 is the usual outcome
        process.fit(X, Y - X if identity else Y)
    length, noise = np.exp(process.kernel_.theta)
    return condition(X, Y, float(length), float(noise), float(process.log_marginal_likelihood_value_), identity)


def condition(
    X: np.ndarray, Y: np.ndarray, length: float, noise: float, lml: float = float("nan"), identity: bool = False
) -> Surrogate:
    """The posterior for given hyperparameters."""
    bare = Surrogate(X, Y, length, noise, lml, np.zeros_like(Y), np.eye(len(X)), identity)
    K = bare._kernel(X)
    K[np.diag_indices_from(K)] += noise + JITTER
    factor, _ = cho_factor(K, lower=True)
    factor = np.tril(factor)
    half = solve_triangular(factor, Y - X if identity else Y, lower=True)
    weights = solve_triangular(factor, half, lower=True, trans="T")
    return Surrogate(X, Y, length, noise, lml, weights, factor, identity)


def level(mu: float, shape: Sequence[int]) -> float:
    """z for which a sample path of the process stays within z deviations at all corners of the grid with probability
    at least mu: z = Phi^-1(1 - (1 - mu) / (2 d N)) with N corners of `shape` cells and d outputs (Bonferroni)."""
    corners = prod(n + 1 for n in shape)
    return float(norm.isf((1 - mu) / (2 * len(shape) * corners)))
