"""Morse graphs of a Gaussian process: ours, against a Python callback for each box (the way of the released notebooks).

    python benchmarks/morse_graph.py [--callback 12] [--finest 17]

The map is the surrogate of 100 pairs with a known shape (no training needed). The callback evaluates scikit-learn's
process at the corners of one box at a time inside CMGDB. Ours includes grid, graph, components, Morse graph and order
retraction; the callback's includes grid, graph and Morse graph only.
"""

from __future__ import annotations

import argparse
import time

import CMGDB
import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from reprod.morse_graph import compute
from reprod.morse_graph.surrogate import fit


def pairs(d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (100, d))
    return X, X - 2.5 + 0.2 * rng.normal(size=X.shape)


def bounds(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(X, Y).min(axis=0) - 0.5, np.maximum(X, Y).max(axis=0) + 0.5


def callback(subdivisions: int) -> tuple[float, int]:
    X, Y = pairs()
    lower, upper = bounds(X, Y)
    process = GaussianProcessRegressor(RBF(0.5, (0.01, 2)) + WhiteKernel()).fit(X, Y)

    def box(rectangle):
        return CMGDB.BoxMap(lambda x: process.predict(np.array([x]))[0].tolist(), rectangle, padding=True)

    begin = time.perf_counter()
    model = CMGDB.Model(subdivisions, lower.tolist(), upper.tolist(), box)
    graph, _ = CMGDB.ComputeMorseGraph(model)
    return time.perf_counter() - begin, graph.num_vertices()


def ours(subdivisions: int, d: int = 2, padding: bool = True) -> tuple[float, int]:
    X, Y = pairs(d)
    surrogate = fit(X, Y)
    begin = time.perf_counter()
    graph = compute(surrogate, *bounds(X, Y), subdivisions, padding)
    return time.perf_counter() - begin, len(graph.node_sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callback", type=int, default=12, help="subdivisions of the comparison")
    parser.add_argument("--finest", type=int, default=17)
    options = parser.parse_args()
    ours(6)  # compile
    fast, slow = min(ours(options.callback) for _ in range(3)), callback(options.callback)
    print(f"S = {options.callback}: callback {slow[0]:.1f} s ({slow[1]} nodes), ours {1000 * fast[0]:.1f} ms", end="")
    print(f" ({fast[1]} nodes): {slow[0] / fast[0]:.0f} times")
    for subdivisions in range(5, options.finest + 1, 2):
        print(f"d = 2, S = {subdivisions:2}: {1000 * min(ours(subdivisions) for _ in range(3))[0]:8.1f} ms")
    for d in (3, 4, 5):
        print(f"d = {d}, S = 15: {1000 * ours(15, d)[0]:8.1f} ms")


if __name__ == "__main__":
    main()
