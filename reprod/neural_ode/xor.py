"""Lady Windermere's fan on XOR: a linear readout that works because of the solver's error (Ott et al. 2021, figure 3).

    z' = [[alpha, 1], [-gamma |z|^delta, beta]] z,    (0,0), (1,1) -> class 0,    (0,1), (1,0) -> class 1

Euler's bias grows with the distance from the origin and the time spent; with h = 10^-2.5 it separates the end points
of the two classes by a line, with h = 10^-3.5 and in the limit h -> 0 it does not.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from reprod import compiled
from reprod.neural_ode.solvers import SolverSetting

POINTS = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
LABELS = np.array([0, 0, 1, 1])


def fan(
    setting: SolverSetting,
    *,
    alpha: float = 0.2,
    beta: float = 0.2,
    gamma: float = 15.0,
    delta: float = 1.0,
    end: float = 3.75,
) -> tuple[np.ndarray, np.ndarray]:
    """Times (n + 1,) and trajectories (n + 1, 4, 2) of POINTS at every step; the last step is T - n h."""
    lengths, (a, b) = np.array(setting.step_lengths(end)), setting.scheme.tableau()
    states = np.empty((len(lengths) + 1, *POINTS.shape))
    states[0] = POINTS
    _solve(states, lengths, a, b, float(alpha), float(beta), float(gamma), float(delta))
    return np.concatenate([[0.0], np.cumsum(lengths)]), states


@compiled.strict
def _solve(states, lengths, a, b, alpha, beta, gamma, delta):
    """Fill states[1:] by the Runge-Kutta scheme (a, b)."""
    k = np.empty((len(b), 2))
    for point in range(states.shape[1]):
        for n in range(len(lengths)):
            x, y = states[n, point]
            for i in range(len(b)):
                p, q = x, y
                for j in range(i):
                    p += lengths[n] * a[i, j] * k[j, 0]
                    q += lengths[n] * a[i, j] * k[j, 1]
                k[i, 0] = alpha * p + q
                k[i, 1] = beta * q - gamma * np.sqrt(p * p + q * q) ** delta * p
            for i in range(len(b)):
                x += lengths[n] * b[i] * k[i, 0]
                y += lengths[n] * b[i] * k[i, 1]
            states[n + 1, point, 0], states[n + 1, point, 1] = x, y


def separability_margin(points: np.ndarray, labels: np.ndarray) -> float:
    """max over unit u of (min over class 1 of u.x - max over class 0 of u.x): twice the margin of the best line
    between the classes if they are linearly separable, minus their depth of overlap if they are not.

    It is the signed distance of the origin from the convex hull of all differences between the classes, which is
    attained along a difference or along a normal of two of them.
    """
    differences = (points[labels == 1][:, None] - points[labels == 0]).reshape(-1, 2)
    edges = np.array([q - p for p, q in permutations(differences, 2)])
    directions = np.concatenate([differences, np.stack([-edges[:, 1], edges[:, 0]], 1)])
    lengths = np.linalg.norm(directions, axis=1)
    directions = directions[lengths > 0] / lengths[lengths > 0, None]
    return float((directions @ differences.T).min(1).max())
