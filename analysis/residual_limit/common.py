"""What the figures of this paper share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reprod.residual_limit import rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reprod.store import Record

PAPER = "Marion et al. 2024 (arXiv 2309.01213)"
RERUN = "released scripts as re-run by us, float64"
LAW = "the theory's rate; a line through logarithms of finite depths bends by some hundredths"


def plt() -> Any:
    import matplotlib.pyplot

    return matplotlib.pyplot


def guide(ax: Axes, x: np.ndarray, start: float, power: float, label: str) -> None:
    ax.plot(x, start * (x / x[0]) ** power, "--", color="black", lw=0.9, label=label, zorder=1)


def depth_axis(ax: Axes, depths: np.ndarray) -> None:
    ax.set(xscale="log", yscale="log", xlabel="depth $L$")
    ax.set_xticks(depths, [str(L) for L in depths])
    ax.minorticks_off()


def lost(config: Any, records: Sequence[Record]) -> int:
    """Seeds of a configuration that gave no result."""
    return max(0, len(config.seeds) - len(records))


def farthest(values: np.ndarray, target: float) -> float:
    """The value farthest from a target; NaN where one of them is."""
    return float(values[np.abs(values - target).argmax()])


def exponents(depths: np.ndarray, values: np.ndarray, reference: int | None = None) -> np.ndarray:
    """The exponent of L at each time, of distances (L, time)."""
    return rates.asymptotic(depths, values, reference).value
