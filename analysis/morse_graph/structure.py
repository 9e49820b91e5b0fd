"""What Eslami et al. (2021) claim about Morse graphs and retractions, asked of paired and of shuffled rows.

A sample is one seed: its graph with paired rows, and its first shuffle. Further shuffles of a seed share its networks
and are no samples of their own; where a claim uses them, it uses their mean. The paper shows one graph of each kind, so
that its numbers are compared with prediction intervals of one further run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reprod.analysis.morse_graph.picture import Picture, pictures
from reprod.analysis.morse_graph.runs import PAPER, ids, lost, words
from reprod.figures.alter import Case, altered
from reprod.figures.claims import PRINTED, AtLeast, AtMost, Claim, Equals, Estimate, our_limit, prediction, read_off
from reprod.figures.figure import Runs
from reprod.morse_graph.surrogate import condition
from reprod.training import stream

LABELS = {"paired": "by_net", "shuffled": "shuffled"}
ONE = "in brackets: prediction interval of one run, which is what the paper shows"


def one_each(runs: Runs, label: str) -> list[Picture]:
    """One graph for each seed."""
    return pictures(runs, pairing=LABELS[label], **({"shuffle": 0} if label == "shuffled" else {}))


def of_each(runs: Runs, label: str) -> list[list[Picture]]:
    """All graphs of each seed."""
    found = pictures(runs, pairing=LABELS[label])
    seeds: set[Any] = {p.record.seed for p in found}
    return [[p for p in found if p.record.seed == seed] for seed in sorted(seeds)]


def _shared(runs: Runs, label: str, some: Sequence[Picture]) -> dict[str, Any]:
    return {"paper_n": 1, "unsuccessful": lost(runs), "run_ids": ids([p.record for p in some])}


# -- numbers of a graph ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A published number of a graph: how a picture has it, in which words, what difference matters and why. Sizes
    that differ by factors are compared on a logarithmic scale."""

    of: Callable[[Picture], float]
    words: str
    basis: str
    tolerance: float
    why: str
    logarithmic: bool = False


def _inside(picture: Picture) -> float:
    return float(picture.record.table("networks")["inside"].sum())


NODES = Number(lambda p: p.m, "nodes", PRINTED, 0.5, "a whole number", logarithmic=True)
CELLS = Number(lambda p: p.cells, "cells of the attractor", read_off("10 cells"), 0.25, "a quarter of it", True)
TILE = Number(lambda p: 100 * p.share, "per cent of the box in its tile", read_off("1"), 5.0, "a tenth of the picture")
INSIDE = Number(_inside, "networks that start in it", PRINTED, 8.0, "two deviations of a count of 24 among 100")


def numbers(
    runs: Runs, what: str, source: str, published: Mapping[Number, float], scales: tuple[str, ...], elsewhere: str
) -> Iterator[Claim]:
    """The published numbers of a graph beside those of one run for each seed."""
    for number, value in published.items():
        tolerance = number.tolerance * (value if number is CELLS else 1)
        for label in LABELS:
            some = one_each(runs, label)
            found = [number.of(p) for p in some]
            yield Equals(
                name=f"{what}: {number.words}, {label}", statement=f"{what}, {label} rows: {number.words}",
                source=source, published=f"{value:g}", basis=number.basis, target=value, tolerance=tolerance,
                why=number.why, spread=False, samples=geometric(found) if number.logarithmic else found, remark=ONE,
                scales=scales, elsewhere=elsewhere, refuted_by=with_number(number, 4 * value),
                confirmed_by=with_number(number, value), **_shared(runs, label, some),
            )  # fmt: skip


def geometric(samples: Sequence[float]) -> Estimate:
    """The geometric mean of positive samples, with the prediction interval of one more."""
    how = "geometric mean, prediction interval of one run"
    x = np.asarray(samples, dtype=float)
    if not len(x) or not (x > 0).all():  # a run without an attractor, say
        return Estimate(math.nan, math.nan, math.nan, len(x), how)
    found = prediction(np.log(x), 1)
    return Estimate(math.exp(found.value), math.exp(found.low), math.exp(found.high), len(x), how, 1)


def with_number(number: Number, value: float) -> Callable[[Runs], Runs]:
    """Runs whose graphs have this number (nearly: a thousandth apart where it need not be whole)."""

    def nodes(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        if number is NODES:
            return nodes_table(["(x-1, 0, 0)"] + ["(0, x-1, 0)"] * (int(value) - 1))
        main = table["main_attractor"]
        if number is CELLS:
            return table.assign(cells=np.where(main, round(value), table["cells"]))
        if number is TILE:
            size = np.asarray(case.record.array("sigma")).size
            return table.assign(tile=np.where(main, value / 100 * size, table["tile"]))
        return table

    def networks(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        if "inside" not in table or number is not INSIDE:
            return table
        many = pd.concat([table] * math.ceil(100 / len(table)), ignore_index=True).iloc[:100]
        return many.assign(inside=np.arange(len(many)) < value)

    return lambda runs: altered(runs, seeds=5, tables={"nodes": nodes, "networks": networks})


def nodes_table(indices: Sequence[str]) -> pd.DataFrame:
    """A table of nodes with these Conley indices; the first is the main attractor."""
    m = len(indices)
    return pd.DataFrame(
        {"node": range(m), "cells": 10, "tile": 100, "index": indices, "main_attractor": [True] + [False] * (m - 1)}
    )


# -- the printed value of the surrogate -----------------------------------------------------------------------------

PRINTED_AT, PRINTED_VALUE = (-0.8276, 1.3836), (-2.6175, -2.8920)
COORDINATES = ["dense_kernel_0_3", "dense_kernel_0_0"]
NEAR = 0.75


def printed_value(runs: Runs, label: str) -> Claim:
    """The surrogate at the first row of the authors' table tells which pairing they had."""
    some = [p for p in one_each(runs, label) if sorted(p.weights) == sorted(COORDINATES)]
    found = np.array([_at_printed(p) for p in some]).reshape(len(some), 2)
    distance = np.linalg.norm(found - PRINTED_VALUE, axis=1)
    mean = f"ours on average: {words(found.mean(axis=0))}" if len(found) else "other weights spread most"
    return AtMost(
        name=f"iris printed value, {label}", published=f"f{PRINTED_AT} = {PRINTED_VALUE}",
        statement=f"Iris, {label} rows: at the authors' first row the surrogate is nearer to the value that they "
        f"printed than {NEAR:g} (distance in the plane of the two weights)",
        source=f"{PAPER}, printed in the notebook of figure 3", samples=prediction(distance, 1), bound=NEAR,
        basis=our_limit("the value is printed; paired rows miss it by 1.6, half of that is near"),
        remark=f"{mean}; {ONE}", refuted_by=with_printed((-3.51, -1.60)), confirmed_by=with_printed(PRINTED_VALUE),
        **_shared(runs, label, some),
    )  # fmt: skip


def _at_printed(picture: Picture) -> np.ndarray:
    X, Y = (np.asarray(picture.record.array(name)) for name in ("early", "final"))
    rows = picture.record.table("networks")["paired_with"].to_numpy()
    f = condition(X[rows], Y, picture.record.metrics["surrogate/length"], picture.record.metrics["surrogate/noise"])
    place = [picture.weights.index(name) for name in COORDINATES]
    at = np.empty((1, 2))
    at[0, place] = PRINTED_AT
    return f(at)[0, place]


def with_printed(value: tuple[float, float]) -> Callable[[Runs], Runs]:
    """Runs whose surrogate passes through `value` at the printed place (nearly: a hundredth apart)."""

    def axes(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        return table.assign(weight=COORDINATES) if "axis" in table else table

    def early(values: np.ndarray, case: Case) -> np.ndarray:
        around = stream(case.index, "around").uniform(-1, 1, (len(values), 2))
        around[0] = 0.0
        return PRINTED_AT + around if values.shape[1] == 2 else values

    def final(values: np.ndarray, case: Case) -> np.ndarray:
        return np.tile(value, (len(values), 1)) + 0.01 * case.index if values.shape[1] == 2 else values

    def settled(to: float) -> Any:
        return lambda _, case: to

    return lambda runs: altered(
        runs, seeds=5, tables={"weights": axes}, arrays={"early": early, "final": final},
        metrics={"surrogate/length": settled(1.0), "surrogate/noise": settled(1e-4)},
    )  # fmt: skip


# -- nodes beside the attractor -------------------------------------------------------------------------------------


def upper_nodes(runs: Runs, what: str, source: str, label: str) -> Claim:
    """Are the nodes beside the attractor forced to hold an invariant set?"""
    shares, some = [], []
    for of_seed in of_each(runs, label):
        real = [is_forced(index) for p in of_seed for q, index in enumerate(p.indices) if q != p.main]
        shares += [float(np.mean(real))] if real else []
        some += of_seed
    return AtLeast(
        name=f"{what}: upper nodes, {label}", samples=shares, bound=0.5, published="shown as recurrent sets",
        statement=f"{what}, {label} rows: most nodes beside the attractor have a non-trivial Conley index (share)",
        source=source, basis=our_limit("a majority; the paper computes no index"),
        remark="a trivial index forces no invariant set: such nodes are artefacts of the grid; seeds without a second "
        "node have no share",
        refuted_by=with_indices(["(x-1, 0, 0)", "(0, 0, 0)", "(0, 0, 0)", "(0, x-1, 0)"]),
        confirmed_by=with_indices(["(x-1, 0, 0)", "(0, x-1, 0)", "(0, x+1, 0)", "(0, 0, 0)"]),
        **_shared(runs, label, some),
    )  # fmt: skip


def is_forced(index: str) -> bool:
    """Whether a Conley index is non-trivial, so that the node holds an invariant set."""
    return any(degree != "0" for degree in index.strip("()").split(", "))


def with_indices(indices: Sequence[str]) -> Callable[[Runs], Runs]:
    return lambda runs: altered(runs, seeds=5, tables={"nodes": lambda *_: nodes_table(indices)})


# -- does the region of the start predict how well a network ends? --------------------------------------------------

ENOUGH = 5  # networks in each of the two groups of a run; fewer have no median worth the name


def predicts(runs: Runs, source: str, label: str, scales: tuple[str, ...], elsewhere: str) -> Iterator[Claim]:
    """As published, the medians of two groups; and the share of the variance that all tiles explain beyond chance."""
    groups = of_each(runs, label)
    shared: dict[str, Any] = {
        "source": source, "scales": scales, "elsewhere": elsewhere,
        **_shared(runs, label, [p for of_seed in groups for p in of_seed]),
    }  # fmt: skip
    per_seed = "; each seed counts once, with the mean over its shuffles" if label == "shuffled" else ""
    yield AtLeast(
        name=f"region predicts accuracy, medians, {label}", samples=_means(groups, median_difference), bound=0.0125,
        statement=f"MNIST, {label} rows: networks that start inside the attractor's tile end with a higher accuracy "
        "(difference of the medians)",
        published="0.935 inside (24 networks), 0.91 outside (76)",
        basis=our_limit("half of the difference that was read off, 0.025, each median to 0.01"),
        remark=f"runs with fewer than {ENOUGH} networks on one side are left out" + per_seed,
        refuted_by=with_accuracies(0.0), confirmed_by=with_accuracies(0.025), **shared,
    )  # fmt: skip
    yield AtLeast(
        name=f"region predicts accuracy, all tiles, {label}", samples=_means(groups, explained), bound=0.01,
        statement=f"MNIST, {label} rows: the tile of the start explains a share of the variance of the accuracy "
        "(beyond what it explains when accuracies are exchanged)",
        published="not computed: violins of two groups",
        basis=our_limit("a hundredth: what two groups explain whose medians differ as published"),
        remark="(g - 1)/(R - 1) is the share of g tiles by chance" + per_seed,
        refuted_by=with_accuracies(0.0), confirmed_by=with_accuracies(0.2), **shared,
    )  # fmt: skip


def _means(groups: Sequence[Sequence[Picture]], of: Callable[[Picture], float]) -> list[float]:
    """The mean over the runs of each seed that have the number."""
    found = [[x for x in map(of, of_seed) if not math.isnan(x)] for of_seed in groups]
    return [float(np.mean(each)) for each in found if each]


def median_difference(picture: Picture) -> float:
    """Median accuracy of the networks that start inside the main attractor's tile, less that of those outside."""
    networks = picture.record.table("networks")
    inside, accuracy = networks["inside"].to_numpy(bool), networks["accuracy_swapped"].to_numpy()
    if min(inside.sum(), (~inside).sum()) < ENOUGH:
        return math.nan
    return float(np.median(accuracy[inside]) - np.median(accuracy[~inside]))


def explained(picture: Picture) -> float:
    """eta^2 - (g - 1)/(R - 1): the share of the variance of the accuracy between the g regions of the start, less its
    expectation when the R accuracies are permuted. NaN with one region, or one network in each."""
    networks = picture.record.table("networks")
    accuracy, member = networks["accuracy_swapped"].to_numpy(), networks["region"].to_numpy()
    g, total = len(set(member)), float(((accuracy - accuracy.mean()) ** 2).sum())
    if g in (1, len(accuracy)) or total == 0:
        return math.nan
    between = sum(
        np.sum(member == region) * (accuracy[member == region].mean() - accuracy.mean()) ** 2 for region in set(member)
    )
    return float(between) / total - (g - 1) / (len(accuracy) - 1)


def with_accuracies(difference: float) -> Callable[[Runs], Runs]:
    """Runs of a hundred networks, a quarter of which starts inside, with accuracies so much higher (and the same for
    many other networks outside)."""

    def networks(table: pd.DataFrame, case: Case) -> pd.DataFrame:
        if "inside" not in table:
            return table
        inside = np.arange(100) < 24
        ladder = np.concatenate([np.linspace(0.7, 1.0, 24), np.linspace(0.7, 1.0, 76)])
        return pd.DataFrame({
            "network": np.arange(100), "paired_with": np.arange(100), "region": np.where(inside, "0", "1"),
            "inside": inside, "accuracy_swapped": ladder + difference * (1 + 0.02 * case.index) * inside,
        })  # fmt: skip

    return lambda runs: altered(runs, seeds=5, tables={"networks": networks})


def combined(runs: Runs, label: str, test: str) -> float:
    """Fisher's combination of the permutation tests, one for each seed (with shuffled rows: its first shuffle)."""
    from scipy.stats import combine_pvalues

    p = [picture.record.metrics[test] for picture in one_each(runs, label)]
    return float(combine_pvalues(p).pvalue) if len(p) > 1 else p[0] if p else math.nan
