"""Which networks of E1 a figure needs, what the store holds of them, and what several figures draw alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.config import Config, at_scale
from reprod.figures.figure import Runs
from reprod.figures.style import shades
from reprod.learning_coefficient.config import DlnLlc
from reprod.learning_coefficient.sizes import SIZE_CLASSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reprod.store import Record

PAPER = "Lau et al. 2023 (arXiv 2308.12108)"
DLN, SADDLE, RESNET = ("dln_llc",), ("dln_saddle_dynamics",), ("resnet_llc_curve",)


def plt() -> Any:
    import matplotlib.pyplot as plt

    return plt


# -- E1: which networks, and what the store holds of them --------------------------------------------------------------

SMALL_NETS = {"1K": tuple(range(24)), "10K": tuple(range(16))}
SMALL_TRAINED = {"1K": tuple(range(12))}


def nets(scale: str) -> list[Config]:
    if scale == "paper":
        return [at_scale(DlnLlc, scale, size_class=c, seeds=tuple(range(100))) for c in SIZE_CLASSES]
    chosen = SMALL_NETS if scale == "small" else {"1K": (0, 1, 2), "10K": (0, 1)}
    return [at_scale(DlnLlc, scale, size_class=c, seeds=seeds) for c, seeds in chosen.items()]


def trained_nets(scale: str) -> list[Config]:
    if scale != "small":
        return nets(scale)
    return [
        at_scale(DlnLlc, scale, size_class=c, seeds=seeds, train=True, iterations=20_000)
        for c, seeds in SMALL_TRAINED.items()
    ]


def net_table(runs: Runs) -> pd.DataFrame:
    """One row per network; an estimate whose chains all diverged is NaN."""
    rows = []
    for config, records in runs:
        for record in records:
            m = record.metrics
            rows.append({
                "size_class": config.size_class, "seed": record.seed, "parameters": m["network/parameters"],
                "layers": m["network/layers"], "rank": m["network/rank"], "exact": m["llc/exact"],
                "multiplicity": int(m["llc/multiplicity"]), "estimate": m.get("llc/estimate", math.nan),
                "standard_error": m.get("llc/standard_error", math.nan),
                "acceptance": m.get("llc/acceptance", math.nan), "diverged_chains": int(m["llc/diverged_chains"]),
                "trained_estimate": m.get("trained/estimate", math.nan), "run_id": record.id,
            })  # fmt: skip
    table = pd.DataFrame(rows)
    known = table.exact.where(table.exact > 0)  # 0 where there is nothing to estimate
    table.insert(list(table).index("acceptance"), "relative_error", 1 - table.estimate / known)
    return table


def diverged(table: pd.DataFrame, column: str = "estimate") -> str:
    lost = int(table[column].isna().sum())
    return f"{len(table)} networks; {lost} without an estimate because every chain diverged"


def identity(ax: Axes, x: pd.Series, y: pd.Series) -> None:
    values = np.concatenate([x[x > 0], y[y > 0]])
    ends = np.array([values.min() * 0.8, values.max() * 1.25]) if values.size else np.array([1.0, 10.0])
    ax.plot(ends, ends, "--", color="black", lw=1.5, zorder=1, label="estimate = exact")


def scatter(table: pd.DataFrame, column: str, label: str) -> Any:
    fig, ax = plt().subplots(figsize=(4.8, 3.9))
    kept = table[(table[column] > 0) & (table.exact > 0)]
    norm = plt().matplotlib.colors.LogNorm(*decades(table.parameters))
    identity(ax, kept.exact, kept[column])
    dots = ax.scatter(kept.exact, kept[column], c=kept.parameters, norm=norm, cmap="plasma", s=16, lw=0, zorder=2)
    ax.set(xscale="log", yscale="log", xlabel=r"exact learning coefficient $\lambda$", ylabel=label)
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        if high < 100 * low:  # fewer than two decades: the labels of all tenths would collide
            axis.set_major_locator(plt().matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(plt().matplotlib.ticker.NullFormatter())
    fig.colorbar(dots, ax=ax, label="parameters $D$")
    ax.legend(loc="upper left")
    return fig


def decades(values: pd.Series) -> tuple[float, float]:
    return 10.0 ** math.floor(math.log10(values.min())), 10.0 ** math.ceil(math.log10(values.max()))


def failed(runs: Runs) -> int:
    """Seeds that ended without a result."""
    return sum(max(len(config.seeds) - len(records), 0) for config, records in runs)


def spread(records: Sequence[Record], count: int) -> list[Record]:
    """`count` records, evenly spread over all."""
    if len(records) <= count:
        return list(records)
    return [records[i] for i in np.linspace(0, len(records) - 1, count).round().astype(int)]


def blocks(trace: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Last step and mean of `count` equal pieces of a trace."""
    parts = np.array_split(trace, min(count, len(trace)))
    return np.cumsum([len(p) for p in parts]), np.array([p.mean() for p in parts])


def histogram(table: pd.DataFrame, column: str, label: str, *, bins: Any = 10, log: bool = False) -> Any:
    fig, ax = plt().subplots(figsize=(4.4, 2.9))
    groups = [(name, g[column].dropna()) for name, g in table.groupby("size_class", sort=False)]
    edges = np.histogram_bin_edges(np.log10(table[column].dropna()) if log else table[column].dropna(), bins)
    values = [np.log10(v) if log else v for _, v in groups]
    ax.hist(values, edges, stacked=True, label=[name for name, _ in groups], color=shades(len(groups)))
    ax.set(xlabel=label, ylabel="networks")
    ax.legend(title="class")
    return fig


def size(record: Record) -> float:
    return record.metrics["network/parameters"]
