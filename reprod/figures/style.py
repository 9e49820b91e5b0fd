"""One look for all figures: quiet axes, colour-blind-safe colours, text that stays readable in a paper's column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Okabe and Ito's palette: told apart with every common colour blindness, and in grey
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)

SETTINGS: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "figure.constrained_layout.use": True,
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,
    "svg.hashsalt": "reprod",
}


@contextmanager
def applied() -> Iterator[None]:
    import matplotlib
    from cycler import cycler

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a figure is the same whatever the user's matplotlibrc says
        settings: Any = {**SETTINGS, "axes.prop_cycle": cycler(color=CYCLE)}
        matplotlib.rcParams.update(settings)
        yield


def shades(n: int) -> Sequence[Any]:
    """n colours in an order (step sizes, depths), from a perceptually uniform map without its palest end."""
    import matplotlib
    import numpy as np

    return [matplotlib.colormaps["viridis"](v) for v in np.linspace(0.0, 0.88, max(n, 1))]
