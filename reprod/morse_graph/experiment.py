"""The experiments of Eslami et al. (2021): train many small networks; extract the global dynamics of a surrogate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reprod.errors import Diverged
from reprod.run import Run
from reprod.training import State, loop, stream

from . import statistics, surrogate, training
from .architectures import ARCHITECTURES
from .config import SWEEP, IrisTraining, MnistTraining, MorseGraph, Training
from .data import Examples, petals, zeros_and_ones
from .maps import KNOWN_MAPS
from .morse import MorseGraph as Graph
from .morse import compute
from .networks import Networks
from .surrogate import Surrogate

LOGGED = 50  # points of a metric that a person wants to see
NET_SEEDS = 100_000  # networks of seed s have the seeds s * NET_SEEDS + r


# -- training -----------------------------------------------------------------------------------------------------


def examples(config: Training) -> tuple[Examples, Examples]:
    """Training and test set."""
    if isinstance(config, MnistTraining):
        options = {"scale": config.scale_pixels}
        train = zeros_and_ones("train", config.data_dir, first=config.images, **options)
        return train, zeros_and_ones("test", config.data_dir, subset=100, **options)
    assert isinstance(config, IrisTraining)
    return petals("train", config.standardise), petals("test", config.standardise)


def train(config: IrisTraining | MnistTraining, run: Run) -> None:
    """`nets` networks for each seed, all of them as one batch; reports what sections 2.3 and 2.4 ask for."""
    train_set, test_set = examples(config)
    architecture = ARCHITECTURES[config.network]
    children = run.children()
    for child in children:
        for part in (train_set, test_set):
            shape = part.x.shape[1:]
            child.dataset(
                part.name, split=part.split, source=part.source, digest=part.digest, size=len(part.y), shape=shape
            )
    ensemble = training.build(architecture, train_set.x, train_set.y, batch_size=config.batch_size)
    tensors = ensemble.init([s * NET_SEEDS + r for s in config.seeds for r in range(config.nets)]).tensors()
    every = max(1, config.epochs // LOGGED)

    def healthy() -> bool:
        return len(children) > 1 or bool(torch.isfinite(tensors["weights"]).all())

    parts = State(networks=tensors)
    for epoch in loop(run, config.epochs, parts, every=config.checkpoint_every, healthy=healthy):
        tensors.update(ensemble.update(training.State(**tensors)).tensors())
        if epoch % every == 0 or epoch == config.epochs:
            for child, losses in zip(children, tensors["loss"].split(config.nets), strict=True):
                child.log(epoch, {"train/loss": float(losses.mean())})
    state = training.State(**tensors)
    for child, rows in zip(children, torch.arange(len(state.weights)).split(config.nets), strict=True):
        if not torch.isfinite(state.weights[rows]).all():
            if len(children) == 1:
                raise Diverged("the weights of a network left the finite numbers")
            child.fail("the weights of a network left the finite numbers")
            continue
        _report(child, config, ensemble, test_set, state.early[rows], state.weights[rows])


def _report(
    run: Run, config: Training, ensemble: training.Ensemble, test: Examples, early: torch.Tensor, final: torch.Tensor
) -> None:
    architecture = ARCHITECTURES[config.network]
    result = _measure(architecture.name, ensemble, test, early, final)
    names = f"kernel weights {architecture.kernel_names[0]} ... {architecture.kernel_names[-1]} in graph order"
    run.array("early", result.early, axes=("net", "weight"), about=f"after two epochs: {names}")
    run.array("final", result.final, axes=("net", "weight"), about=f"after the last epoch: {names}")
    run.array("prob", result.prob, axes=("net", "test", "class"), about="predicted class probabilities")
    run.array("labels", result.labels, axes=("test",), about="true classes of the test set")
    run.array("test_loss", result.loss, axes=("net", "snapshot"), unit="nats", about="test loss: early, final")
    swapped = "mean over predicted classes of P(true | predicted): the paper's balanced accuracy"
    run.array("accuracy_swapped", result.swapped, axes=("net",), about=swapped)
    run.array("accuracy", result.balanced, axes=("net",), about="balanced accuracy: mean recall over true classes")
    run.array("entropy", result.entropy, axes=("test",), unit="nats", about="entropy of the mean prediction")
    run.array("spread", result.spread, axes=("weight",), about="deviation over networks of the final kernel weights")
    measured = {
        "test/accuracy": result.balanced.mean(),
        "test/accuracy_swapped": result.swapped.mean(),
        "test/accuracy_swapped_median": np.median(result.swapped),
        "test/entropy_median": np.median(result.entropy),
        "test/loss": result.loss[:, 1].mean(),
        "weights/spread_median": np.median(result.spread),
    }
    run.log(config.epochs, {name: float(value) for name, value in measured.items()})
    networks = Networks(architecture.name, len(final))
    networks.load_state_dict({"weights": final})
    arguments = {"architecture": architecture.name, "networks": len(final)}
    run.model(networks, arguments=arguments, example=torch.from_numpy(test.x[:4]))


@dataclass(frozen=True)
class Trained:
    """What one seed's networks leave behind: kernel weights (R, P), predictions (R, n, C), and their statistics."""

    network: str
    early: np.ndarray
    final: np.ndarray
    prob: np.ndarray
    labels: np.ndarray
    loss: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        return np.asarray(self.prob).argmax(axis=-1)

    @property
    def swapped(self) -> np.ndarray:
        return statistics.accuracy_swapped(self.predicted, np.asarray(self.labels), self.prob.shape[-1])

    @property
    def balanced(self) -> np.ndarray:
        return statistics.accuracy_balanced(self.predicted, np.asarray(self.labels), self.prob.shape[-1])

    @property
    def entropy(self) -> np.ndarray:
        return statistics.ensemble_entropy(self.prob)

    @property
    def spread(self) -> np.ndarray:
        return statistics.weight_spread(self.final)


def _measure(
    network: str, ensemble: training.Ensemble, test: Examples, early: torch.Tensor, final: torch.Tensor
) -> Trained:
    kernels = list(ARCHITECTURES[network].kernel_index)
    _, early_loss = ensemble.predict(early, test.x, test.y)
    prob, loss = ensemble.predict(final, test.x, test.y)
    return Trained(
        network=network,
        early=early[:, kernels].numpy(),
        final=final[:, kernels].numpy(),
        prob=prob.numpy(),
        labels=test.y,
        loss=torch.stack([early_loss, loss], dim=1).numpy(),
    )


# -- the training that a Morse graph is about -----------------------------------------------------------------------


def trained(config: MorseGraph, run: Run) -> Trained:
    """The networks of one seed: from the store where it has them, trained here otherwise, and the run says which."""
    if config.training_run == "auto":
        from reprod.store.writer import MlflowRun

        wanted = config.training()
        found = None
        if isinstance(run, MlflowRun):  # a run in memory has no store to look into
            from reprod.store import Store

            found = Store().find(wanted)
        if found is None:
            run.note("training", "trained in this run: the store holds no finished run of these parameters")
            return _train_here(wanted)
    else:
        from reprod.store import Store

        found = Store().get(config.training_run)
    run.note("training", f"run {found.id}")
    names = ("early", "final", "prob", "labels", "test_loss")
    return Trained(found.config.network, *(np.asarray(found.array(name)) for name in names))


def _train_here(config: Training) -> Trained:
    train_set, test_set = examples(config)
    architecture = ARCHITECTURES[config.network]
    ensemble = training.build(architecture, train_set.x, train_set.y, batch_size=config.batch_size)
    state = ensemble.init([config.seeds[0] * NET_SEEDS + r for r in range(config.nets)])
    state = ensemble.update(state, config.epochs)
    return _measure(config.network, ensemble, test_set, state.early, state.weights)


# -- the Morse graph ------------------------------------------------------------------------------------------------


def morse_graph(config: MorseGraph, run: Run) -> None:
    """Surrogate, Morse graph and order retraction, for each seed (sections 1.2 to 1.7)."""
    run.each_seed(_known_map if config.map != "surrogate" else _surrogate)


def _known_map(config: MorseGraph, run: Run) -> None:
    case = KNOWN_MAPS[config.map]
    box = case.lower, case.upper
    graph = compute(case.f, *box, config.subdivisions, config.padding, conley=config.conley, prune=config.prune)
    _report_graph(run, graph)
    rows = [_timed(case.f, *box, s, config.padding, 0.0) for s in config.sweep]
    _report_sweep(run, rows)


def _surrogate(config: MorseGraph, run: Run) -> None:
    networks = trained(config, run)
    weights = ranked(networks.final, config.pair, config.dimension)
    names = [ARCHITECTURES[networks.network].kernel_names[j] for j in weights]
    run.note("weights", ", ".join(names))
    X, Y, lower, upper = phase_space(networks, weights)
    rows = _pairing(config, len(X))
    f = surrogate.fit(X[rows], Y, identity=config.prior == "identity")
    graph = _compute(config, f, lower, upper, config.subdivisions, conley=config.conley, prune=config.prune)
    run.array("early", X, axes=("net", "coordinate"), about=f"after two epochs: {names}", exact=True)
    run.array("final", Y, axes=("net", "coordinate"), about=f"after the last epoch: {names}", exact=True)
    run.array("rows", rows, axes=("net",), about="row of `early` that the surrogate pairs with each row of `final`")
    _report_graph(run, graph)
    deviation = f.deviation(graph.grid.points()).reshape([n + 1 for n in graph.grid.shape])
    axes = [f"x{k}" for k in range(config.dimension)]
    run.array("deviation", deviation, axes=axes, about="latent deviation of the surrogate at the corners")
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
    _report_regions(config, run, networks, graph, X)
    sweep = [(s, config.dimension) for s in config.sweep] + [(config.subdivisions, d) for d in config.sweep_dimensions]
    _report_sweep(run, [_timed_surrogate(config, networks, s, d) for s, d in sweep])
    _report_bootstrap(config, run, X[rows], Y, lower, upper)


def ranked(final: np.ndarray, pair: str, dimension: int) -> np.ndarray:
    """The weights whose final values spread most (least) over the networks, in ascending order of that spread."""
    order = np.argsort(statistics.weight_spread(final), kind="stable")
    return order[-dimension:] if pair == "largest" else order[:dimension]


def phase_space(
    networks: Trained, weights: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Early and final values X, Y (R, d) of the chosen weights, and the box: half a unit around all of them."""
    X = np.asarray(networks.early, dtype=float)[:, weights]
    Y = np.asarray(networks.final, dtype=float)[:, weights]
    return X, Y, np.minimum(X, Y).min(axis=0) - 0.5, np.maximum(X, Y).max(axis=0) + 0.5


def _pairing(config: MorseGraph, nets: int) -> np.ndarray:
    """Which early row goes with final row r: its own, or a random one as in the published tables."""
    if config.pairing == "by_net":
        return np.arange(nets)
    return stream(config.seeds[0], f"shuffle {config.shuffle}").permutation(nets)


def _compute(
    config: MorseGraph,
    f: Surrogate,
    lower: np.ndarray,
    upper: np.ndarray,
    subdivisions: int,
    *,
    conley: bool = False,
    prune: bool = False,
) -> Graph:
    from .grid import Grid

    bounds = tuple(lower), tuple(upper)
    z = config.z if config.level is None else surrogate.level(config.level, Grid(*bounds, subdivisions).shape)
    return compute(f, *bounds, subdivisions, config.padding, z=z, deviation=f.deviation, conley=conley, prune=prune)


def main_attractor(graph: Graph) -> int | None:
    """The attractor with most cells, among those with a non-trivial index if there are any; None without nodes."""
    found = graph.attractors
    if graph.indices is not None:
        found = [q for q in found if any(degree != "0" for degree in graph.indices[q])] or found
    return max(found, key=lambda q: graph.node_sizes[q]) if found else None


def _report_graph(run: Run, graph: Graph) -> None:
    axes = [f"x{k}" for k in range(graph.grid.dimension)]
    about = "node of each cell, -1: leaves the box, -2: no order retraction"
    run.array("sigma", graph.sigma, axes=axes, about=about)
    run.array("morse", graph.morse, axes=axes, about="node that the cell belongs to, or -1")
    box = np.array([graph.grid.lower, graph.grid.upper])
    run.array("box", box, axes=("end", "coordinate"), about="lower and upper corner of the box", exact=True)
    run.array("arrows", np.array(graph.edges, dtype=np.int32).reshape(-1, 2), axes=("arrow", "end"), about="from, to")
    sizes = np.array([graph.node_sizes, graph.tile_sizes], dtype=np.int64).T
    run.array("nodes", sizes, axes=("node", "kind"), unit="cells", about="size of the node and of its tile")
    nontrivial = [""] if graph.indices is None else ["(" + ", ".join(index) + ")" for index in graph.indices]
    if graph.indices is not None:
        text = np.frombuffer("\n".join(nontrivial).encode(), dtype=np.uint8)
        run.array("indices", text, axes=("byte",), about="Conley index of each node, one line each, as UTF-8")
    main = main_attractor(graph)
    cells = graph.grid.size
    measured = {
        "graph/nodes": len(graph.node_sizes),
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
        if main is not None:
            run.note("attractor_index", nontrivial[main])
    run.log(0, {name: float(value) for name, value in measured.items()})


def _report_regions(config: MorseGraph, run: Run, networks: Trained, graph: Graph, X: np.ndarray) -> None:
    """Does the tile in which a network starts predict how well it ends?"""
    regions = graph.regions(X)
    main = main_attractor(graph)
    run.array("region", regions, axes=("net",), about="sigma at the network's own early weights; -3: outside the box")
    swapped = networks.swapped
    run.array("accuracy_swapped", swapped, axes=("net",), about="the paper's balanced accuracy of each network")
    inside = regions == main if main is not None else np.zeros(len(regions), bool)
    for name, group in (("all", np.ones(len(inside), bool)), ("inside", inside), ("outside", ~inside)):
        chosen = networks.prob[group]
        entropy = statistics.ensemble_entropy(chosen) if len(chosen) else np.full(len(networks.labels), np.nan)
        run.array(f"entropy_{name}", entropy, axes=("test",), unit="nats", about=f"networks that start {name}")
    for name, labels in (("tile", inside.astype(int)), ("regions", regions)):
        rng = stream(config.seeds[0], "permutation")
        test = statistics.permutation_test(swapped, labels, rng=rng, permutations=config.permutations)
        run.log(0, {f"{name}/p": test.p, f"{name}/eta2": test.statistic, f"{name}/groups": len(test.groups)})
    run.log(0, {"tile/inside": int(inside.sum())})


# -- sweeps ---------------------------------------------------------------------------------------------------------

REPEATS = 5  # of a timing; the fastest counts


def _timed(f, lower, upper, subdivisions: int, padding: bool, fit: float) -> tuple[list[float], list[float]]:
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < 1.0:
        began = time.perf_counter()
        graph = compute(f, tuple(lower), tuple(upper), subdivisions, padding)
        seconds.append(time.perf_counter() - began)
    main = main_attractor(graph)
    tile = graph.tile_sizes[main] / graph.grid.size if main is not None else 0.0
    undecided = float((graph.sigma == -2).mean())
    facts = [subdivisions, graph.grid.dimension, len(graph.node_sizes), graph.n_recurrent, graph.n_edges]
    return [*facts, undecided, tile], [fit, min(seconds)]


def _timed_surrogate(
    config: MorseGraph, networks: Trained, subdivisions: int, dimension: int
) -> tuple[list[float], list[float]]:
    X, Y, lower, upper = phase_space(networks, ranked(networks.final, config.pair, dimension))
    began = time.perf_counter()
    f = surrogate.fit(X[_pairing(config, len(X))], Y, identity=config.prior == "identity")
    return _timed(f, lower, upper, subdivisions, config.padding, time.perf_counter() - began)


def _report_sweep(run: Run, rows: Sequence[tuple[list[float], list[float]]]) -> None:
    if not rows:
        return
    facts, seconds = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    run.array("sweep", facts, axes=("case", "quantity"), about=", ".join(SWEEP), exact=True)
    run.array("timing_sweep", seconds, axes=("case", "step"), unit="s", about="fit, graph with retraction")


def _report_bootstrap(
    config: MorseGraph, run: Run, X: np.ndarray, Y: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> None:
    """Morse graphs of networks drawn with replacement, in the box of all of them."""
    rows = []
    for b in range(config.bootstrap):
        drawn = stream(config.seeds[0], f"bootstrap {b}").integers(len(X), size=len(X))
        f = surrogate.fit(X[drawn], Y[drawn], identity=config.prior == "identity")
        graph = _compute(config, f, lower, upper, config.subdivisions)
        main = main_attractor(graph)
        tile = graph.tile_sizes[main] / graph.grid.size if main is not None else 0.0
        rows.append([len(graph.node_sizes), graph.n_recurrent, tile])
    if rows:
        run.array("bootstrap", np.array(rows), axes=("resample", "quantity"), about="nodes, recurrent cells, main tile")
