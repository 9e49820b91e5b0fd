"""Morse graphs and order retractions of maps on a box: `compute`.

The directed graph G of a grid (`grid`) has one vertex for each cell. Its recurrent strongly connected components (more
than one cell, or a cell with an edge to itself) are the Morse nodes M; q >= p iff a cell of q reaches a cell of p. The
Morse graph is the Hasse diagram of this order, arrows downwards; its minimal nodes are the attractors. The order
retraction (`retraction`) gives each cell a node.

One numbering throughout: nodes in order of height (longest chain below), then of smallest cell. Every arrow goes from a
larger to a smaller number, and node 0 is a sink.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from . import retraction
from .grid import Grid, cell_images, successors

MAX_EDGES = 2**28


class TooManyEdges(ValueError):
    """More edges than fit into memory: a finer grid, or wider images, than this machine can take."""


@dataclass(frozen=True)
class MorseGraph:
    """What `compute` found.

    node_sizes: cells of each node; edges: arrows (q, p), q > p, of the Hasse diagram; tile_sizes: cells that the
    retraction sends to each node; order: (M, M) booleans, order[q, p] iff q >= p; sigma: int32 over the grid, a node,
    -1 (every path leaves the box) or -2 (no order retraction); morse: int32 over the grid, a node or -1; n_edges: edges
    of G; exists: no cell is -2; indices: Conley index of each node, a string for each degree, or None if not asked for;
    n_recurrent: recurrent cells of G, those of pruned nodes included.
    """

    grid: Grid
    node_sizes: list[int]
    edges: list[tuple[int, int]]
    tile_sizes: list[int]
    order: np.ndarray
    sigma: np.ndarray
    morse: np.ndarray
    n_edges: int
    n_recurrent: int
    indices: list[tuple[str, ...]] | None = None

    @property
    def exists(self) -> bool:
        return not bool((self.sigma == retraction.NONE).any())

    @property
    def attractors(self) -> list[int]:
        """Nodes with nothing below them."""
        return [q for q in range(len(self.node_sizes)) if self.order[q].sum() == 1]

    def regions(self, points: np.ndarray) -> np.ndarray:
        """sigma at the cells of points (m, d); -3 outside the box."""
        cells = self.grid.locate(points)
        return np.where(cells >= 0, self.sigma.ravel()[cells], -3)


@dataclass(frozen=True)
class _Condensation:
    """G in CSR form and its strongly connected components, numbered sinks first."""

    indptr: np.ndarray
    indices: np.ndarray
    component: np.ndarray
    cells: np.ndarray
    start: np.ndarray
    recurrent: np.ndarray

    def reach(self, node: np.ndarray, nodes: int) -> np.ndarray:
        graph = (self.indptr, self.indices, self.component, self.cells, self.start)
        return retraction.reachable(*graph, node, retraction.words(nodes))

    def retract(self, node: np.ndarray, reach: np.ndarray, order: np.ndarray) -> np.ndarray:
        graph = (self.indptr, self.indices, self.component, self.cells, self.start)
        return retraction.retract(*graph, node, reach, retraction.pack(order), retraction.pack(order.T))


def compute(
    f: Callable[[np.ndarray], Any],
    lower: Sequence[float],
    upper: Sequence[float],
    subdivisions: int,
    padding: bool = True,
    *,
    z: float = 0.0,
    deviation: Callable[[np.ndarray], Any] | None = None,
    conley: bool = False,
    prune: bool = False,
) -> MorseGraph:
    """Morse graph and order retraction of the map f on the box [lower, upper].

    Args:
        f: sends points (n, d) to points (n, d). A method `on_grid(axes)`, if it has one, is used for the whole grid.
        subdivisions: S, bisections of the box; about 2^S cells.
        padding: widen each image by one cell on every side.
        z: widen each image by z times the deviation at the corners (`surrogate.level` gives z for a probability).
        deviation: sends points (n, d) to standard deviations (n, 1) or (n, d).
        conley: compute the Conley indices (by CMGDB).
        prune: drop the nodes with a trivial index before the retraction; their cells become ordinary ones.

    Raises:
        ValueError: bad bounds, a map of another shape or with infinite values.
        TooManyEdges: more than 2^28.
    """
    grid = Grid(tuple(lower), tuple(upper), subdivisions)
    low, high = cell_images(f, grid, padding, z, deviation)
    condensation = _condense(grid, low, high)
    graph = _build(grid, condensation)
    if not (conley or prune):
        return graph
    from .conley import conley_indices

    graph = replace(graph, indices=conley_indices(graph, low, high))
    return _pruned(graph, condensation) if prune else graph


def _condense(grid: Grid, low: np.ndarray, high: np.ndarray) -> _Condensation:
    first, last = successors(grid, low, high)
    counts = np.prod(np.maximum(last - first + 1, 0), axis=1, dtype=np.int64)
    total = int(counts.sum())
    if total > MAX_EDGES:
        raise TooManyEdges(f"the graph has {total:,} edges, more than {MAX_EDGES:,}: lower the subdivisions or z")
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    indices = np.empty(total, np.int32)
    retraction.edges(first, last, np.array(grid.shape), indptr, indices)
    matrix = csr_array((np.ones(total), indices, indptr), shape=(grid.size, grid.size))
    n, component = connected_components(matrix, directed=True, connection="strong")
    if not retraction.sinks_first(component, indptr, indices):
        raise RuntimeError("SciPy's components are not in topological order")
    sizes = np.bincount(component, minlength=n)
    cells = np.argsort(component, kind="stable")
    at = np.stack(np.unravel_index(np.arange(grid.size), grid.shape), axis=1)
    to_itself = ((first <= at) & (at <= last)).all(axis=1)
    recurrent = sizes > 1
    recurrent[component[to_itself]] = True
    return _Condensation(indptr, indices, component, cells, np.concatenate([[0], np.cumsum(sizes)]), recurrent)


def _build(grid: Grid, c: _Condensation) -> MorseGraph:
    """Numbers the recurrent components and retracts onto them."""
    recurrent = np.flatnonzero(c.recurrent)
    m = len(recurrent)
    node = np.full(len(c.recurrent), -1, np.int64)
    node[recurrent] = np.arange(m)
    order = retraction.unpack(c.reach(node, m)[recurrent], m)
    height = np.zeros(m, np.int64)
    for q in range(m):
        below = order[q, :q]
        height[q] = 1 + height[:q][below].max() if below.any() else 0
    smallest = c.cells[c.start[recurrent]]
    number = np.lexsort((smallest, height))
    recurrent = recurrent[number]
    node[recurrent] = np.arange(m)
    return _with_nodes(grid, c, node, recurrent, order[np.ix_(number, number)])


def _with_nodes(
    grid: Grid, c: _Condensation, node: np.ndarray, components: np.ndarray, order: np.ndarray
) -> MorseGraph:
    """The Morse graph whose node q is components[q]; node is the inverse, order their order."""
    m = len(components)
    sigma = c.retract(node, c.reach(node, m), order)[c.component].astype(np.int32)
    morse = node[c.component].astype(np.int32)
    return MorseGraph(
        grid=grid,
        node_sizes=np.bincount(morse[morse >= 0], minlength=m).tolist(),
        edges=_hasse(order),
        tile_sizes=np.bincount(sigma[sigma >= 0], minlength=m).tolist(),
        order=order,
        sigma=sigma.reshape(grid.shape),
        morse=morse.reshape(grid.shape),
        n_edges=len(c.indices),
        n_recurrent=int(c.recurrent[c.component].sum()),
    )


def _hasse(order: np.ndarray) -> list[tuple[int, int]]:
    """Transitive reduction of a partial order, as arrows (q, p)."""
    strict = (order & ~np.eye(len(order), dtype=bool)).astype(np.float32)
    between = strict @ strict > 0
    return [(int(q), int(p)) for q, p in np.argwhere((strict > 0) & ~between)]


def _pruned(graph: MorseGraph, c: _Condensation) -> MorseGraph:
    """The graph without its nodes of trivial index, and the retraction onto the others."""
    assert graph.indices is not None
    keep = [q for q, index in enumerate(graph.indices) if any(degree != "0" for degree in index)]
    components = np.array([c.component[np.flatnonzero(graph.morse.ravel() == q)[0]] for q in keep], dtype=np.int64)
    node = np.full(len(c.recurrent), -1, np.int64)
    node[components] = np.arange(len(keep))
    pruned = _with_nodes(graph.grid, c, node, components, graph.order[np.ix_(keep, keep)])
    return replace(pruned, indices=[graph.indices[q] for q in keep])
