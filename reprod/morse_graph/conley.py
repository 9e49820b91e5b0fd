"""Conley indices by CMGDB (Gameiro et al.), for the same grid and the same outer approximation as ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .grid import Grid
    from .morse import MorseGraph


def box_map(grid: Grid, low: np.ndarray, high: np.ndarray):
    """CMGDB's two forms of the box map, of one box and of many, as a look-up in the images (cells, d).

    The boxes that CMGDB asks about are cells of the grid, or, on the way to it, unions of cells.
    """
    d = grid.dimension
    shape = (*grid.shape, d)
    low, high = low.reshape(shape), high.reshape(shape)
    lower, widths = np.array(grid.lower), grid.widths

    def batch(boxes) -> np.ndarray:
        boxes = np.asarray(boxes, dtype=float)
        first = np.rint((boxes[:, :d] - lower) / widths).astype(np.int64)
        last = np.rint((boxes[:, d:] - lower) / widths).astype(np.int64)
        if (last - first == 1).all():
            at = tuple(first.T)
            return np.hstack([low[at], high[at]])
        images = np.empty((len(boxes), 2 * d))
        for i, (a, b) in enumerate(zip(first, last, strict=True)):
            cells = tuple(slice(j, k) for j, k in zip(a, b, strict=True))
            images[i, :d] = low[cells].reshape(-1, d).min(axis=0)
            images[i, d:] = high[cells].reshape(-1, d).max(axis=0)
        return images

    return (lambda box: batch([box])[0].tolist()), batch


def cmgdb_graph(grid: Grid, low: np.ndarray, high: np.ndarray, conley: bool = True):
    """CMGDB's own Morse graph of the outer approximation, all subdivisions at once, and its map graph."""
    import CMGDB

    single, batch = box_map(grid, low, high)
    model = CMGDB.Model(grid.subdivisions, list(grid.lower), list(grid.upper), single)
    model.set_batch_map(batch)
    return (CMGDB.ComputeConleyMorseGraph if conley else CMGDB.ComputeMorseGraph)(model)


def conley_indices(graph: MorseGraph, low: np.ndarray, high: np.ndarray) -> list[tuple[str, ...]]:
    """The Conley index of each node: for each degree the invariant polynomials of the index map, "0" when trivial.

    (x-1, 0, 0) looks like an attracting fixed point, (x^2-1, 0, 0) like an attracting orbit of period 2, (0, x-1, 0)
    like a saddle with one unstable direction (x+1: it flips), (0, 0, x-1) like a repeller. A trivial index forces no
    invariant set to exist: the node may be an artefact of the grid.

    Raises:
        RuntimeError: CMGDB finds other nodes than ours.
    """
    theirs, _ = cmgdb_graph(graph.grid, low, high)
    d = graph.grid.dimension
    morse = graph.morse.ravel()
    indices: list[tuple[str, ...] | None] = [None] * len(graph.node_sizes)
    for v in theirs.vertices():
        boxes = np.array(theirs.morse_set_boxes(v), dtype=float).reshape(-1, 2 * d)
        nodes = np.unique(morse[graph.grid.locate((boxes[:, :d] + boxes[:, d:]) / 2)])
        if len(nodes) != 1 or nodes[0] < 0 or len(boxes) != graph.node_sizes[nodes[0]]:
            raise RuntimeError(f"CMGDB's node {v} with {len(boxes)} cells is none of ours")
        indices[nodes[0]] = tuple(str(degree) for degree in theirs.annotations(v))
    if None in indices:
        raise RuntimeError(f"CMGDB has {theirs.num_vertices()} nodes, we have {len(indices)}")
    return [index for index in indices if index is not None]
