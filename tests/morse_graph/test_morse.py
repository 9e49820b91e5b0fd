"""Morse graphs with closed forms (C1 to C8 of the spec), invariants of the construction, CMGDB as the cross-check."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprod.morse_graph import compute, retraction
from reprod.morse_graph.conley import cmgdb_graph
from reprod.morse_graph.grid import Grid, cell_images, successors
from reprod.morse_graph.maps import KNOWN_MAPS
from reprod.morse_graph.surrogate import fit


def surrogate(seed, displacement, d=2, n=40):
    """A Gaussian process through random pairs: `displacement` 0 is shuffled rows, small is near the identity."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, d))
    shift = displacement * rng.normal(size=(1, d)) + 0.1 * displacement * rng.normal(size=(n, d))
    Y = X + shift if displacement else rng.permutation(X) * 0.2
    lower, upper = np.minimum(X, Y).min(axis=0) - 0.5, np.maximum(X, Y).max(axis=0) + 0.5
    return fit(X, Y), tuple(lower), tuple(upper)


def known(name, subdivisions, padding=False, **options):
    case = KNOWN_MAPS[name]
    return compute(case.f, case.lower, case.upper, subdivisions, padding, **options)


# f, S, padding, sizes, arrows, ordered pairs, edges of G, tiles; None where the spec gives no number
CLOSED_FORMS = {
    "C1 x/2": ("half", 6, False, [2, 1, 1], 2, 2, 128, [2, 31, 31]),
    "C2 x/2 padded": ("half", 6, True, [6, 1, 1], 2, 2, 256, [6, 29, 29]),
    "C2 in 2-D": ("half_2d", 12, True, [36, 6, 6, 6, 6, 1, 1, 1, 1], 12, 16, 256**2, None),
    "C3 identity": ("identity", 8, False, [256], 0, 0, 2116, [256]),
    "C4 constant": ("constant", 10, False, [1], 0, 0, 1024, [1024]),
    "C4 constant padded": ("constant", 10, True, [9], 0, 0, 9 * 1024, [1024]),
    "C5 bistable": ("bistable", 8, False, [2, 2, 2, 1, 1], 4, 6, None, [126, 126, 2, 1, 1]),
    "C5 bistable padded": ("bistable", 8, True, [4, 4, 4, 1, 1], 4, 6, None, None),
    "C6 2x": ("double", 6, False, [2, 1, 1], 2, 2, None, [2, 1, 1]),
    "C7 product": ("product", 12, False, [1] * 25, 40, 119, None, None),
    "C7 product 3-D": ("product_3d", 15, False, [1] * 125, 300, 1603, None, None),
    "C8 Leslie S=10": ("leslie", 10, False, [268, 1], 1, 1, 3232, None),
    "C8 Leslie S=12": ("leslie", 12, False, [809, 1], 1, 1, 13240, None),
    "C8 Leslie S=14": ("leslie", 14, False, [2023, 73, 10, 4, 4, 1], 6, 12, 53604, None),
    "Leslie S=18": ("leslie", 18, False, None, 7, 13, None, None),
}


@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_closed_forms(case):
    name, subdivisions, padding, sizes, arrows, pairs, edges, tiles = CLOSED_FORMS[case]
    graph = known(name, subdivisions, padding)
    if sizes is not None:
        assert sorted(graph.node_sizes) == sorted(sizes)
    assert len(graph.edges) == arrows
    assert graph.order.sum() - len(graph.node_sizes) == pairs
    assert edges is None or graph.n_edges == edges
    assert tiles is None or sorted(graph.tile_sizes) == sorted(tiles)
    assert graph.exists


def test_constant_on_a_vertex_has_four_by_four_cells():
    graph = compute(lambda x: np.full_like(x, 0.5), (0, 0), (1, 1), 10, True)
    assert (graph.node_sizes, graph.n_edges) == ([16], 16 * 1024)


def test_cells_that_leave_the_box():
    graph = known("double", 6)
    assert (graph.sigma == -1).sum() == 60


@pytest.mark.parametrize(
    ("name", "subdivisions", "padding", "nontrivial"),
    [
        ("half", 6, False, [("x-1", "0")]),
        ("half", 6, True, [("x-1", "0")]),
        ("bistable", 8, False, [("0", "x-1"), ("x-1", "0"), ("x-1", "0")]),
        ("product", 12, False, [("0", "0", "x-1"), ("0", "x-1", "0"), ("0", "x-1", "0"), ("x-1", "0", "0")]),
    ],
)
def test_conley_indices_and_pruning(name, subdivisions, padding, nontrivial):
    graph = known(name, subdivisions, padding, conley=True)
    assert sorted(i for i in graph.indices if any(d != "0" for d in i)) == nontrivial
    pruned = known(name, subdivisions, padding, prune=True)
    assert sorted(pruned.indices) == nontrivial
    assert sum(pruned.tile_sizes) + (pruned.sigma == -1).sum() == pruned.sigma.size
    check_invariants(pruned, *images(name, subdivisions, padding))


@pytest.mark.parametrize("prune", [False, True])
def test_a_drift_has_no_node(prune):
    graph = compute(lambda x: x + 0.3, (0.0,), (1.0,), 6, True, prune=prune)
    assert graph.node_sizes == graph.tile_sizes == graph.edges == []
    assert (graph.sigma == -1).all()


def images(name, subdivisions, padding):
    case = KNOWN_MAPS[name]
    grid = Grid(case.lower, case.upper, subdivisions)
    return successors(grid, *cell_images(case.f, grid, padding))


def check_invariants(graph, first, last):
    """sigma is the identity on the nodes and preserves the order along every edge between cells that have one."""
    sigma, morse = graph.sigma.ravel(), graph.morse.ravel()
    assert (sigma[morse >= 0] == morse[morse >= 0]).all()
    assert all(q > p for q, p in graph.edges)
    shape = graph.grid.shape
    for cell in range(graph.grid.size):
        box = tuple(slice(a, b + 1) for a, b in zip(first[cell], last[cell], strict=True))
        after = graph.sigma[box].ravel()
        if sigma[cell] >= 0:
            assert graph.order[sigma[cell], after[after >= 0]].all(), np.unravel_index(cell, shape)
        if sigma[cell] == -1:
            assert (after == -1).all()


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(("name", "subdivisions"), [("half", 7), ("bistable", 9), ("product", 10), ("leslie", 11)])
def test_invariants_of_known_maps(name, subdivisions, padding):
    check_invariants(known(name, subdivisions, padding), *images(name, subdivisions, padding))


@pytest.mark.parametrize("displacement", [0, 0.05, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_surrogates_against_cmgdb_and_the_invariants(seed, displacement):
    """The same nodes, order, edges and reachable sets as CMGDB; the retraction keeps the order."""
    import CMGDB

    f, lower, upper = surrogate(seed, displacement)
    graph = compute(f, lower, upper, 11)
    low, high = cell_images(f, graph.grid, True)
    first, last = successors(graph.grid, low, high)
    check_invariants(graph, first, last)
    assert graph.n_edges == np.maximum(last - first + 1, 0).prod(axis=1).sum()

    theirs, map_graph = cmgdb_graph(graph.grid, low, high, conley=False)
    assert sum(len(map_graph.adjacencies(v)) for v in range(map_graph.num_vertices())) == graph.n_edges

    def our_cells(v):
        boxes = np.array(theirs.morse_set_boxes(v)).reshape(-1, 4)
        return graph.grid.locate((boxes[:, :2] + boxes[:, 2:]) / 2)

    node = [graph.morse.ravel()[our_cells(v)] for v in theirs.vertices()]
    assert [len(set(n)) for n in node] == [1] * len(graph.node_sizes)
    assert [len(n) for n in node] == [graph.node_sizes[n[0]] for n in node]
    arrows = sorted((int(node[v][0]), int(node[w][0])) for v in theirs.vertices() for w in theirs.adjacencies(v))
    assert arrows == sorted(graph.edges)
    if len(node) <= 64:
        map_graph.build_cache()
        cells = range(map_graph.num_vertices())
        masks = CMGDB.MorseReachabilityMasks(map_graph, theirs, list(cells))
        centres = np.array([theirs.phase_space_box(c) for c in cells])
        ours = graph.sigma.ravel()[graph.grid.locate((centres[:, :2] + centres[:, 2:]) / 2)]
        assert ((masks == 0) == (ours == -1)).all()


def test_padding_and_z_only_add_recurrent_cells():
    f, lower, upper = surrogate(3, 0.3)
    bare, padded = compute(f, lower, upper, 11, False), compute(f, lower, upper, 11, True)
    assert (padded.morse >= 0)[bare.morse >= 0].all()
    grown = [compute(f, lower, upper, 10, z=z, deviation=f.deviation) for z in (0.0, 0.5, 1.0)]
    for small, large in pairwise(grown):
        assert (large.morse >= 0)[small.morse >= 0].all()
        assert large.n_edges > small.n_edges


def test_swapping_coordinates_swaps_the_picture():
    f, lower, upper = surrogate(5, 0.3)
    graph = compute(f, lower, upper, 12)
    swapped = compute(lambda x: f(x[:, ::-1])[:, ::-1], lower[::-1], upper[::-1], 12)
    assert sorted(swapped.node_sizes) == sorted(graph.node_sizes)
    assert ((swapped.morse >= 0) == (graph.morse >= 0).T).all()
    assert ((swapped.sigma == -2) == (graph.sigma == -2).T).all()
    assert swapped.n_edges == graph.n_edges


def test_pointwise_and_grid_evaluation_give_one_graph():
    f, lower, upper = surrogate(6, 0.3)
    whole, pointwise = compute(f, lower, upper, 11), compute(lambda x: f(x), lower, upper, 11)
    assert (whole.sigma == pointwise.sigma).all()
    assert whole.edges == pointwise.edges


@pytest.mark.parametrize(
    ("d", "subdivisions", "shape"), [(2, 15, (256, 128)), (3, 15, (32,) * 3), (1, 3, (8,)), (3, 1, (2, 1, 1))]
)
def test_shape_of_the_grid(d, subdivisions, shape):
    grid = Grid((0.0,) * d, (1.0,) * d, subdivisions)
    assert grid.shape == shape
    assert (grid.locate(grid.centres(np.arange(grid.size))) == np.arange(grid.size)).all()


def test_points_outside_have_no_region():
    graph = known("bistable", 8)
    assert graph.regions(np.array([[3.0], [2.0], [-2.0]])).tolist()[0] == -3
    assert graph.regions(np.array([[2.0], [-2.0]])).min() >= 0


@pytest.mark.parametrize(
    ("f", "arguments", "sentence"),
    [
        (lambda x: x[:, :1], ((0, 0), (1, 1), 4), "points to points|to points"),
        (lambda x: x[:1], ((0, 0), (1, 1), 4), "send points"),
        (lambda x: x / 0, ((0, 0), (1, 1), 4), "not finite"),
        (lambda x: x, ((0, 0), (1, 0), 4), "below its upper"),
        (lambda x: x, ((0, 0), (1,), 4), "one bound"),
        (lambda x: x, ((0, 0), (1, 1), -1), "subdivisions"),
        (lambda x: x, ((0,), (1,), 4, True, 1.0), "deviation"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_mistakes_are_named(f, arguments, sentence):
    z = arguments[4:] or (0.0,)
    with pytest.raises(ValueError, match=sentence):
        compute(f, *arguments[:4], z=z[0])


# ---- the retraction on arbitrary graphs


def slow_retraction(successors_of, node, order):
    """The rules of `retraction` with sets, for components numbered sinks first."""
    n, nodes = len(successors_of), range(len(order))
    reach, above = [], [set() for _ in range(n)]
    for v in range(n):
        reach.append({node[v]} - {-1} | set().union(*(reach[w] for w in successors_of[v])))
    sigma = [None] * n
    for v in range(n):
        largest = [q for q in reach[v] if all(order[q, p] for p in reach[v])]
        sigma[v] = node[v] if node[v] >= 0 else (largest[0] if largest else (-1 if not reach[v] else None))
    for v in range(n - 1, -1, -1):
        for w in successors_of[v]:
            above[w] |= above[v] | ({sigma[v]} if sigma[v] is not None and sigma[v] >= 0 else set())
    candidates = {}
    for v in range(n):
        if sigma[v] is not None:
            continue
        open_below = [w for w in successors_of[v] if w in candidates]
        candidates[v] = [
            q
            for q in nodes
            if all(order[q, p] for p in reach[v])
            and all(order[u, q] for u in above[v])
            and all(any(order[q, c] for c in candidates[w]) for w in open_below)
        ]
        fits = [q for q in candidates[v] if all(sigma[w] < 0 or order[q, sigma[w]] for w in successors_of[v])]
        sigma[v] = min(fits) if fits else -2
    return sigma


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 90), st.floats(0.01, 0.4), st.floats(0.1, 0.95))
def test_retraction_of_random_graphs_against_sets(seed, n, density, share):
    """Acyclic graphs with any number of nodes (more than 64 too): every vertex a component, numbered sinks first."""
    rng = np.random.default_rng(seed)
    adjacency = np.tril(rng.uniform(size=(n, n)) < density, -1)
    successors_of = [np.flatnonzero(row).tolist() for row in adjacency]
    recurrent = rng.uniform(size=n) < share
    node = np.full(n, -1, np.int64)
    node[recurrent] = np.arange(recurrent.sum())
    m = int(recurrent.sum())
    indptr = np.concatenate([[0], np.cumsum(adjacency.sum(axis=1))]).astype(np.int32)
    indices = np.flatnonzero(adjacency.ravel()).astype(np.int32) % n
    ids = np.arange(n)
    graph = (indptr, indices, ids.astype(np.int32), ids, np.arange(n + 1))
    reach = retraction.reachable(*graph, node, retraction.words(m))
    order = retraction.unpack(reach[recurrent], m)
    sigma = retraction.retract(*graph, node, reach, retraction.pack(order), retraction.pack(order.T))
    assert sigma.tolist() == slow_retraction(successors_of, node.tolist(), order)
    for v in range(n):
        for w in successors_of[v]:
            assert sigma[v] < 0 or sigma[w] < 0 or order[sigma[v], sigma[w]]


def test_bit_sets_survive_packing():
    flags = np.random.default_rng(0).uniform(size=(7, 130)) < 0.5
    assert (retraction.unpack(retraction.pack(flags), 130) == flags).all()
