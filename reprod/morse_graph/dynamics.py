"""The global dynamics of training (Eslami et al. 2021): surrogate, Morse graph and order retraction of an ensemble."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from reprod.errors import BadInput
from reprod.run import Run
from reprod.training import stream

from . import statistics, surrogate
from .architectures import ARCHITECTURES
from .config import MorseGraph
from .ensemble import Ensemble
from .grid import Grid
from .maps import KNOWN_MAPS
from .morse import MorseGraph as Graph
from .morse import TooManyEdges, compute
from .surrogate import Surrogate


def morse_graph(config: MorseGraph, run: Run) -> None:
    """Surrogate, Morse graph and order retraction, for each seed (sections 1.2 to 1.7)."""
    run.each_seed(_known_map if config.map != "surrogate" else _surrogate)


def _known_map(config: MorseGraph, run: Run) -> None:
    case = KNOWN_MAPS[config.map]
    graph = _compute(config, case.f, case.lower, case.upper, config.subdivisions, conley=config.conley)
    _report_graph(run, graph)
    _report_sweep(run, [_timed(config, case.f, case.lower, case.upper, s, 0.0) for s in config.sweep])


def _surrogate(config: MorseGraph, run: Run) -> None:
    (wanted,) = config.upstream()
    networks = Ensemble.of(run.upstream(wanted))
    weights = ranked(networks.final, config.pair, config.dimension)
    names = [ARCHITECTURES[networks.architecture].kernel_names[j] for j in weights]
    X, Y, lower, upper = phase_space(networks, weights)
    rows = _pairing(config, len(X))
    f = surrogate.fit(X[rows], Y, identity=config.prior == "identity")
    graph = _compute(config, f, lower, upper, config.subdivisions, conley=config.conley)
    run.array("early", X, axes=("network", "coordinate"), about=f"after two epochs: {names}", exact=True)
    run.array("final", Y, axes=("network", "coordinate"), about=f"after the last epoch: {names}", exact=True)
    axes = {"axis": axis_names(config.dimension), "weight": names, "spread": networks.spread[weights]}
    run.table("weights", pd.DataFrame(axes), about="the weights that span the phase space, and their final deviation")
    _report_graph(run, graph)
    deviation = f.deviation(graph.grid.points()).reshape([n + 1 for n in graph.grid.shape])
    about = "latent deviation of the surrogate at the corners"
    run.array("deviation", deviation, axes=axis_names(config.dimension), about=about)
    displacement = np.sqrt(((Y - X) ** 2).mean(axis=0))
    measured = {
        "surrogate/length": f.length,
        "surrogate/noise": f.noise,
        "surrogate/log_likelihood": f.lml,
        "surrogate/extrapolated": float((deviation > 0.5).mean()),
        "data/displacement": float(displacement.mean()),
        "data/correlation": float(np.mean([np.corrcoef(X[:, k], Y[:, k])[0, 1] for k in range(X.shape[1])])),
    }
    run.log(0, measured)
    _report_starts(config, run, networks, graph, X, rows)
    sweep = [(s, config.dimension) for s in config.sweep] + [(config.subdivisions, d) for d in config.sweep_dimensions]
    _report_sweep(run, [_timed_surrogate(config, networks, s, d) for s, d in sweep])
    _report_bootstrap(config, run, X[rows], Y, lower, upper)


def axis_names(dimension: int) -> list[str]:
    return [f"x{k}" for k in range(dimension)]


def ranked(final: np.ndarray, pair: str, dimension: int) -> np.ndarray:
    """The weights whose final values spread most (least) over the networks, in ascending order of that spread."""
    order = np.argsort(statistics.weight_spread(final), kind="stable")
    return order[-dimension:] if pair == "largest" else order[:dimension]


def phase_space(
    networks: Ensemble, weights: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Early and final values X, Y (R, d) of the chosen weights, and the box: half a unit around all of them."""
    X = np.asarray(networks.early, dtype=float)[:, weights]
    Y = np.asarray(networks.final, dtype=float)[:, weights]
    return X, Y, np.minimum(X, Y).min(axis=0) - 0.5, np.maximum(X, Y).max(axis=0) + 0.5


def _pairing(config: MorseGraph, networks: int) -> np.ndarray:
    """Which early row goes with final row r: its own, or a random one as in the published tables."""
    if config.pairing == "by_net":
        return np.arange(networks)
    return stream(config.seeds[0], f"shuffle/{config.shuffle}").permutation(networks)


def _compute(
    config: MorseGraph,
    f: Any,
    lower: Sequence[float] | np.ndarray,
    upper: Sequence[float] | np.ndarray,
    subdivisions: int,
    *,
    conley: bool = False,
) -> Graph:
    """The graph of a map (a surrogate, or a known one) as the configuration wants it, at any number of subdivisions."""
    bounds = tuple(lower), tuple(upper)
    options: dict[str, Any] = {"conley": conley, "prune": config.prune}
    if isinstance(f, Surrogate):
        z = config.z if config.level is None else surrogate.level(config.level, Grid(*bounds, subdivisions).shape)
        options |= {"z": z, "deviation": f.deviation}
    try:
        return compute(f, *bounds, subdivisions, config.padding, **options)
    except TooManyEdges as error:
        raise BadInput(f"morse_graph: at {subdivisions} subdivisions {error}") from None


def _settled(config: MorseGraph, graph: Graph, again: Callable[[], Graph]) -> Graph:
    """The graph with its indices, computed again with them, where they choose the main attractor."""
    return again() if config.conley and graph.indices is None and len(graph.attractors) > 1 else graph


def main_attractor(graph: Graph) -> int | None:
    """The attractor with most cells, among those with a non-trivial index if there are any; None without nodes."""
    found = graph.attractors
    if graph.indices is not None:
        found = [q for q in found if any(degree != "0" for degree in graph.indices[q])] or found
    return max(found, key=lambda q: graph.node_sizes[q]) if found else None


def attractor_tile(graph: Graph) -> float:
    """The share of the box in the tile of the main attractor."""
    main = main_attractor(graph)
    return graph.tile_sizes[main] / graph.grid.size if main is not None else 0.0


def _report_graph(run: Run, graph: Graph) -> None:
    axes = axis_names(graph.grid.dimension)
    about = "node of each cell, -1: leaves the box, -2: no order retraction"
    run.array("sigma", graph.sigma, axes=axes, about=about)
    run.array("morse", graph.morse, axes=axes, about="node that the cell belongs to, or -1")
    box = np.array([graph.grid.lower, graph.grid.upper])
    run.array("box", box, axes=("end", "coordinate"), about="lower and upper corner of the box", exact=True)
    m, cells = len(graph.node_sizes), graph.grid.size
    main = main_attractor(graph)
    indices = [""] * m if graph.indices is None else ["(" + ", ".join(index) + ")" for index in graph.indices]
    nodes: dict[str, Any] = {
        "node": np.arange(m), "cells": np.array(graph.node_sizes, dtype=int),
        "tile": np.array(graph.tile_sizes, dtype=int), "index": np.array(indices, dtype=object),
        "main_attractor": np.arange(m) == (-1 if main is None else main),
    }  # fmt: skip
    run.table(
        "nodes", pd.DataFrame(nodes), units={"cells": "cells", "tile": "cells"},
        about="size of each Morse node and of its tile, its Conley index (a polynomial for each degree; empty: not "
        "computed), and which one is the main attractor",
    )  # fmt: skip
    arrows = pd.DataFrame(graph.edges, columns=["from", "to"], dtype=int)
    run.table("arrows", arrows, about="arrows of the Morse graph, from a node to one below it")
    measured = {
        "graph/nodes": m,
        "graph/attractors": len(graph.attractors),
        "graph/arrows": len(graph.edges),
        "graph/edges": graph.n_edges,
        "graph/recurrent_cells": graph.n_recurrent,
        "graph/retraction_exists": graph.exists,
        "graph/undecided": float((graph.sigma == -2).mean()),
        "graph/leaving": float((graph.sigma == -1).mean()),
    }
    if main is not None:
        measured |= {
            "attractor/node": main,
            "attractor/cells": graph.node_sizes[main],
            "attractor/tile": graph.tile_sizes[main] / cells,
        }
    if graph.indices is not None:
        measured["graph/nontrivial"] = sum(any(degree != "0" for degree in index) for index in graph.indices)
    run.log(0, {name: float(value) for name, value in measured.items()})


NOWHERE = {-1: "leaves the box", -2: "no order retraction", -3: "outside the box"}  # regions that are no node


def _report_starts(
    config: MorseGraph, run: Run, networks: Ensemble, graph: Graph, X: np.ndarray, rows: np.ndarray
) -> None:
    """Does the tile in which a network starts predict how well it ends?"""
    regions = graph.regions(X)
    main = main_attractor(graph)
    inside = regions == main if main is not None else np.zeros(len(regions), bool)
    accuracy = networks.accuracy_swapped
    starts = {
        "network": np.arange(len(X)), "paired_with": rows, "region": [NOWHERE.get(q, str(q)) for q in regions.tolist()],
        "inside": inside, "accuracy_swapped": accuracy,
    }  # fmt: skip
    run.table(
        "networks", pd.DataFrame(starts),
        about="paired_with: the network whose early weights the surrogate pairs with these final ones; region: node "
        "whose tile holds the network's own early weights; inside: it is the main attractor's; accuracy_swapped: the "
        "paper's balanced accuracy",
    )  # fmt: skip
    for name, group in (("all", np.ones(len(inside), bool)), ("inside", inside), ("outside", ~inside)):
        chosen = networks.prob[group]
        about = "entropy of the mean prediction (NaN: nobody's) of the networks that start: "
        entropy = statistics.ensemble_entropy(chosen) if len(chosen) else np.full(len(networks.labels), np.nan)
        run.array(f"entropy_{name}", entropy, axes=("test",), unit="nats", about=about + name)
    for name, labels in (("tile", inside.astype(int)), ("regions", regions)):
        rng = stream(config.seeds[0], f"permutation/{name}")
        test = statistics.permutation_test(accuracy, labels, rng=rng, permutations=config.permutations)
        run.log(0, {f"{name}/p": test.p, f"{name}/eta2": test.statistic, f"{name}/groups": len(test.groups)})
    run.log(0, {"tile/inside": int(inside.sum())})


# -- sweeps ---------------------------------------------------------------------------------------------------------

REPEATS = 5  # of a timing; the fastest counts


def _timed(config: MorseGraph, f: Any, lower: Any, upper: Any, subdivisions: int, fit: float) -> dict[str, float]:
    """What a graph counts, and how many seconds it took (without indices, unless nodes are pruned by them): the fastest
    of a few."""
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < 1.0:
        began = time.perf_counter()
        graph = _compute(config, f, lower, upper, subdivisions)
        seconds.append(time.perf_counter() - began)
    graph = _settled(config, graph, partial(_compute, config, f, lower, upper, subdivisions, conley=True))
    return {
        "subdivisions": subdivisions, "dimension": graph.grid.dimension, **_counted(graph), "edges": graph.n_edges,
        "undecided": float((graph.sigma == -2).mean()), "fit": fit, "graph": min(seconds),
    }  # fmt: skip


def _counted(graph: Graph) -> dict[str, float]:
    return {
        "nodes": len(graph.node_sizes), "recurrent_cells": graph.n_recurrent, "attractor_tile": attractor_tile(graph),
    }  # fmt: skip


def _timed_surrogate(config: MorseGraph, networks: Ensemble, subdivisions: int, dimension: int) -> dict[str, float]:
    X, Y, lower, upper = phase_space(networks, ranked(networks.final, config.pair, dimension))
    began = time.perf_counter()
    f = surrogate.fit(X[_pairing(config, len(X))], Y, identity=config.prior == "identity")
    return _timed(config, f, lower, upper, subdivisions, time.perf_counter() - began)


def _report_sweep(run: Run, rows: Sequence[dict[str, float]]) -> None:
    if not rows:
        return
    table, timing = pd.DataFrame(rows), ["fit", "graph"]
    about = "graphs by subdivisions and dimension; undecided: share of cells without order retraction"
    run.table("sweep", table.drop(columns=timing), about=about)
    seconds = table[["subdivisions", "dimension", *timing]]
    about = "fit of the surrogate, graph with retraction (the fastest of a few)"
    run.table("timing_sweep", seconds, units=dict.fromkeys(timing, "s"), about=about)


def _report_bootstrap(
    config: MorseGraph, run: Run, X: np.ndarray, Y: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> None:
    """Morse graphs of networks drawn with replacement, in the box of all of them."""
    rows = []
    for b in range(config.bootstrap):
        drawn = stream(config.seeds[0], f"bootstrap/{b}").integers(len(X), size=len(X))
        f = surrogate.fit(X[drawn], Y[drawn], identity=config.prior == "identity")
        at = config, f, lower, upper, config.subdivisions
        graph = _settled(config, _compute(*at), partial(_compute, *at, conley=True))
        rows.append({"resample": b, **_counted(graph)})
    if rows:
        run.table("bootstrap", pd.DataFrame(rows), about="graphs of networks drawn with replacement")
