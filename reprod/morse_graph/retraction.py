"""Reachability and the order retraction on the condensation of a directed graph, with bit sets of any width.

The poset SC of all strongly connected components is ordered by reachability; M, the recurrent ones, is a part of it. An
order retraction is an order-preserving sigma: SC -> M with sigma = id on M. sigma^-1(q) is the tile of q, and
{sigma <= q} is a forward-invariant set of cells. With D(v) the nodes of M reachable from v, the minimal one is

* v in M: sigma(v) = v;
* D(v) has a largest element: sigma(v) is that;
* D(v) has several maximal elements: candidates C(v) = {q : q >= all of D(v), q <= sigma(u) for the u above v that the
  first two rules settle}; q leaves C(v) when a successor has no candidate <= q; then, sinks first, sigma(v) is a
  minimal q in C(v) above all sigma(successor). If none is left there is no order retraction: sigma(v) = -2;
* D(v) is empty (every path leaves the box): sigma(v) = -1.

The bound by nodes that reach v is extended to components of the second kind, because without it an edge from such a
component could go up.

Components are numbered sinks first: an edge never goes to a higher number. Nodes of M are numbered so that a larger
node has a larger number.
"""

from __future__ import annotations

import numpy as np

from reprod.compiled import strict

LEAVES, NONE = -1, -2

_ONE = np.uint64(1)


def words(nodes: int) -> int:
    return max(1, (nodes + 63) // 64)


def unpack(bits: np.ndarray, nodes: int) -> np.ndarray:
    """Bit sets (n, words) as booleans (n, nodes)."""
    little = bits.astype("<u8").view(np.uint8).reshape(len(bits), 8 * bits.shape[1])
    return np.unpackbits(little, axis=1, bitorder="little", count=nodes).astype(bool)


def pack(flags: np.ndarray) -> np.ndarray:
    """Booleans (n, nodes) as bit sets (n, words)."""
    n, nodes = flags.shape
    padded = np.zeros((n, 64 * words(nodes)), np.uint8)
    padded[:, :nodes] = flags
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


@strict
def edges(first, last, shape, indptr, indices):
    """Fills the column indices of the graph in CSR form; `indptr` holds the row ends already."""
    d = shape.size
    strides = np.ones(d, np.int64)
    for k in range(d - 2, -1, -1):
        strides[k] = strides[k + 1] * shape[k + 1]
    at = np.empty(d, np.int64)
    for cell in range(first.shape[0]):
        e = indptr[cell]
        if e == indptr[cell + 1]:
            continue
        for k in range(d):
            at[k] = first[cell, k]
        while True:
            base = np.int64(0)
            for k in range(d - 1):
                base += at[k] * strides[k]
            for x in range(first[cell, d - 1], last[cell, d - 1] + 1):
                indices[e] = base + x
                e += 1
            k = d - 2
            while k >= 0 and at[k] == last[cell, k]:
                at[k] = first[cell, k]
                k -= 1
            if k < 0:
                break
            at[k] += 1


@strict
def sinks_first(component, indptr, indices):
    """Whether no edge goes to a component with a higher number."""
    for u in range(component.size):
        for e in range(indptr[u], indptr[u + 1]):
            if component[indices[e]] > component[u]:
                return False
    return True


@strict
def reachable(indptr, indices, component, cells, start, node, width):
    """D(v) for all components, (components, width) bit sets of node numbers.

    cells[start[v]:start[v+1]] are the cells of component v; node[v] is its number in M or -1.
    """
    n = start.size - 1
    reach = np.zeros((n, width), np.uint64)
    for v in range(n):
        if node[v] >= 0:
            reach[v, node[v] // 64] |= _ONE << np.uint64(node[v] % 64)
        for c in range(start[v], start[v + 1]):
            for e in range(indptr[cells[c]], indptr[cells[c] + 1]):
                w = component[indices[e]]
                if w != v:
                    for k in range(width):
                        reach[v, k] |= reach[w, k]
    return reach


@strict
def _highest(bits):
    for k in range(bits.size - 1, -1, -1):
        if bits[k]:
            b = 63
            while not (bits[k] >> np.uint64(b)) & _ONE:
                b -= 1
            return 64 * k + b
    return -1


@strict
def _lowest(bits):
    for k in range(bits.size):
        if bits[k]:
            b = 0
            while not (bits[k] >> np.uint64(b)) & _ONE:
                b += 1
            return 64 * k + b
    return -1


@strict
def retract(indptr, indices, component, cells, start, node, reach, down, up):
    """sigma for every component, (components,) int32: a node number, LEAVES or NONE.

    down, up: (nodes, width) bit sets of the nodes below and above each node, itself included.
    """
    n, width = reach.shape
    sigma = np.full(n, -3, np.int32)
    slot = np.full(n, -1, np.int64)  # row of the undecided components in `candidates`
    undecided = 0
    for v in range(n):
        top = _highest(reach[v])
        if node[v] >= 0:
            sigma[v] = node[v]
        elif top < 0:
            sigma[v] = LEAVES
        else:
            largest = True
            for k in range(width):
                largest &= reach[v, k] == down[top, k]
            if largest:
                sigma[v] = top
            else:
                slot[v] = undecided
                undecided += 1
    if undecided == 0:
        return sigma

    full = ~np.uint64(0)
    bound = np.full((n, width), full, np.uint64)
    for v in range(n - 1, -1, -1):
        if sigma[v] >= 0:
            for k in range(width):
                bound[v, k] &= down[sigma[v], k]
        for c in range(start[v], start[v + 1]):
            for e in range(indptr[cells[c]], indptr[cells[c] + 1]):
                w = component[indices[e]]
                if w != v:
                    for k in range(width):
                        bound[w, k] &= bound[v, k]

    candidates = np.zeros((undecided, width), np.uint64)
    allowed = np.zeros((undecided, width), np.uint64)  # nodes above some candidate
    rest = np.zeros(width, np.uint64)
    choice = np.zeros(width, np.uint64)
    for v in range(n):
        if slot[v] < 0:
            continue
        s = slot[v]
        for k in range(width):
            candidates[s, k] = bound[v, k]
            rest[k] = reach[v, k]
        p = _highest(rest)
        while p >= 0:  # above every maximal element of D(v)
            for k in range(width):
                candidates[s, k] &= up[p, k]
                rest[k] &= ~down[p, k]
            p = _highest(rest)
        for c in range(start[v], start[v + 1]):
            for e in range(indptr[cells[c]], indptr[cells[c] + 1]):
                w = component[indices[e]]
                if w != v and slot[w] >= 0:
                    for k in range(width):
                        candidates[s, k] &= allowed[slot[w], k]
        for k in range(width):
            rest[k] = candidates[s, k]
        q = _lowest(rest)
        while q >= 0:
            for k in range(width):
                allowed[s, k] |= up[q, k]
                rest[k] &= ~up[q, k]
            q = _lowest(rest)
        for k in range(width):
            choice[k] = candidates[s, k]
        for c in range(start[v], start[v + 1]):
            for e in range(indptr[cells[c]], indptr[cells[c] + 1]):
                w = component[indices[e]]
                if w != v and sigma[w] >= 0:
                    for k in range(width):
                        choice[k] &= up[sigma[w], k]
        q = _lowest(choice)
        sigma[v] = q if q >= 0 else NONE
    return sigma
