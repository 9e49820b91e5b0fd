"""One Morse graph as the store holds it, and how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reprod.figures.figure import Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reprod.store import Record


class Picture:
    """What a `morse_graph` run recorded."""

    def __init__(self, record: Record):
        self.record = record
        self.sigma = np.asarray(record.array("sigma"))
        self.morse = np.asarray(record.array("morse"))
        self.lower, self.upper = np.asarray(record.array("box"))
        self.nodes = record.table("nodes")
        self.sizes, self.tiles = (self.nodes[column].to_numpy() for column in ("cells", "tile"))
        self.indices = self.nodes["index"].tolist()
        self.arrows = [(int(q), int(p)) for q, p in record.table("arrows").to_numpy()]
        main = np.flatnonzero(self.nodes["main_attractor"])
        self.main = int(main[0]) if len(main) else None

    @property
    def m(self) -> int:
        return len(self.sizes)

    @property
    def cells(self) -> float:
        """Of the main attractor; NaN where there is none."""
        return float(self.sizes[self.main]) if self.main is not None else np.nan

    @property
    def share(self) -> float:
        """Of the box that lies in the main attractor's tile; 0 where there is none."""
        return float(self.tiles[self.main]) / self.sigma.size if self.main is not None else 0.0

    @property
    def index(self) -> str:
        """The Conley index of the main attractor; empty where there is none."""
        return self.indices[self.main] if self.main is not None else ""

    @cached_property
    def weights(self) -> list[str]:
        """The weights that span the phase space; none for a known map."""
        return self.record.table("weights")["weight"].tolist() if self.record.config.map == "surrogate" else []

    @cached_property
    def heights(self) -> np.ndarray:
        """Longest chain below each node."""
        height = np.zeros(self.m, int)
        for q, p in sorted(self.arrows):
            height[q] = max(height[q], height[p] + 1)
        return height

    def colours(self) -> np.ndarray:
        """Node i of m: colour map brg at i/(m - 1), as published; one numbering for all."""
        import matplotlib

        return matplotlib.colormaps["brg"](np.arange(self.m) / max(1, self.m - 1))

    def summary(self) -> str:
        cells = self.sizes[self.main] if self.main is not None else 0
        tile = f"{100 * self.share:.{0 if self.share > 0.1 else 1}f} %"
        return f"{self.m} node{'s' * (self.m != 1)}, attractor {cells} cells, tile {tile}"


def draw_retraction(ax: Axes, picture: Picture, *, deviation: bool = False) -> None:
    """Tiles at alpha 0.3, nodes at alpha 1 (section 1.8); white: leaves the box; grey: no order retraction."""
    colours = picture.colours()[:, :3]
    image = np.ones((*picture.sigma.shape, 3))
    image[picture.sigma == -2] = 0.72
    tile = picture.sigma >= 0
    image[tile] = 0.3 * colours[picture.sigma[tile]] + 0.7
    node = picture.morse >= 0
    image[node] = colours[picture.morse[node]]
    (x0, y0), (x1, y1) = picture.lower, picture.upper
    ax.imshow(image.transpose(1, 0, 2), origin="lower", extent=(x0, x1, y0, y1), aspect="auto", interpolation="none")
    if deviation:
        field = np.asarray(picture.record.array("deviation"))
        x, y = (np.linspace(a, b, n) for a, b, n in zip(picture.lower, picture.upper, field.shape, strict=True))
        ax.contour(x, y, field.T, levels=[0.5], colors="black", linewidths=0.8, linestyles="dashed")
    if len(picture.weights) == 2:
        ax.set(xlabel=picture.weights[0], ylabel=picture.weights[1])
    ax.grid(False)


def draw_graph(ax: Axes, picture: Picture) -> None:
    """The Hasse diagram, layered by height; with many nodes their sizes by height instead."""
    ax.grid(False)
    colours, heights = picture.colours(), picture.heights
    if picture.m > 12:
        order = np.argsort(picture.sizes)
        ax.scatter(picture.sizes[order], heights[order], c=colours[order], s=14, edgecolors="black", linewidths=0.3)
        ax.set(xscale="log", xlabel="cells of a node", ylabel="height (arrows below)", title=f"{picture.m} nodes")
        ax.set_xlim(0.7, 1.6 * picture.sizes.max())
        return
    place: dict[int, tuple[float, float]] = {}
    for height in range(heights.max() + 1 if picture.m else 0):
        row = np.flatnonzero(heights == height)
        place |= {int(q): ((j + 1) / (len(row) + 1), float(height)) for j, q in enumerate(row)}
    for q, p in picture.arrows:
        style = {"arrowstyle": "-|>", "color": "black", "shrinkA": 11, "shrinkB": 11, "lw": 0.9}
        ax.annotate("", place[p], place[q], arrowprops=style)
    for q, (x, y) in place.items():
        ax.scatter([x], [y], s=330, color=colours[q], edgecolors="black", linewidths=0.6, zorder=3)
        ax.text(x, y, str(q), color="white", ha="center", va="center", fontsize=8, zorder=4)
        label = f"{picture.sizes[q]} cell{'s' * int(picture.sizes[q] != 1)}\n{picture.indices[q]}".strip()
        ax.annotate(label, (x, y), (12, 0), textcoords="offset points", ha="left", va="center", fontsize=6.5)
    ax.set(xlim=(0, 1.1), ylim=(-0.5, max(1, heights.max() if picture.m else 1) + 0.35))
    ax.axis("off")


ROWS = {"by_net": "rows paired by network (correct)", "shuffled": "rows shuffled (as published)"}


def side_by_side(runs: Runs, nodes: int, tile: float) -> list[tuple[str, Picture]]:
    """Of all shuffles of all seeds the one nearest to the published number of nodes and share of the attractor's tile,
    and above it the same seed with its rows paired; each with a title that says so."""
    of_seed = {p.record.seed: p for p in pictures(runs, pairing="by_net")}
    shuffled = [p for p in pictures(runs, pairing="shuffled") if p.record.seed in of_seed]

    def distance(p: Picture) -> tuple[int, float]:
        return abs(p.m - nodes), abs(p.record.metrics.get("attractor/tile", np.inf) - tile)

    near = min(shuffled, key=distance)
    paired = of_seed[near.record.seed]
    shuffle = near.record.config.shuffle
    which = f"seed {near.record.seed}, shuffle {shuffle}: nearest of {len(shuffled)}"
    return [
        (f"{ROWS['by_net']}, seed {near.record.seed}\n{paired.summary()}", paired),
        (f"{ROWS['shuffled']}, {which}\n{near.summary()}", near),
    ]


def pictures(runs: Runs, **where: Any) -> list[Picture]:
    return [Picture(record) for record in runs.of("morse_graph").where(**where).records]


PARAMETERS = ("architecture", "epochs", "pair", "pairing", "shuffle", "prior", "level", "prune", "subdivisions")
METRICS = (
    "graph/nodes", "graph/nontrivial", "graph/undecided", "graph/recurrent_cells", "attractor/cells", "attractor/tile",
    "surrogate/length", "surrogate/noise", "data/correlation", "tile/inside", "tile/p", "regions/p",
)  # fmt: skip


def facts(picture: Picture) -> dict[str, Any]:
    """A row of a table."""
    record = picture.record
    parameters = {name: getattr(record.config, name) for name in PARAMETERS}
    numbers = {name: record.metrics.get(name, np.nan) for name in METRICS}
    words = {"attractor_index": picture.index, "weights": " ".join(picture.weights)}
    return {"seed": record.seed, **parameters, **numbers, **words}


def spread_of(pictures: Sequence[Picture], metric: str, scale: float = 1.0) -> str:
    """Smallest to largest value over runs, in words."""
    found = [scale * p.record.metrics[metric] for p in pictures if metric in p.record.metrics]
    if not found:
        return "none"
    low, high = (f"{x:.3g}" if x < 1000 else f"{x:.0f}" for x in (min(found), max(found)))
    return low if low == high else f"{low} to {high}"


def index_counts(pictures: Sequence[Picture]) -> str:
    found = pd.Series([p.index or "none" for p in pictures]).value_counts()
    return ", ".join(f"{index} in {n} of {len(pictures)}" for index, n in found.items())


def compared(paired: Sequence[Picture], shuffled: Sequence[Picture]) -> str:
    """The finding over seeds, with its numbers."""
    lines = []
    for name, some in (("paired", paired), ("shuffled", shuffled)):
        lines.append(
            f"{name} rows, {len(some)} runs: {spread_of(some, 'graph/nodes')} nodes of which "
            f"{spread_of(some, 'graph/nontrivial')} with a non-trivial index, attractor "
            f"{spread_of(some, 'attractor/cells')} cells, its tile {spread_of(some, 'attractor/tile', 100)} % of the "
            f"box, no order retraction on {spread_of(some, 'graph/undecided', 100)} % of the cells, attractor index "
            f"{index_counts(some)}"
        )
    return "; ".join(lines)
