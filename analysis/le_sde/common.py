"""What several figures of Zhang et al. (2021) share.

Published numbers were read off the pictures of the first implementation, which had no seeds and one ensemble of a
hundred networks for each picture: what a class mean gives, the strengths and the tail index, is *one* number of one
ensemble on one data set. Our independent samples are therefore ensembles, each with networks and data (images drawn,
labels corrupted) of its own, and a published number without its spread is compared with a prediction interval.
Class names are corrected: the published legends call triangles ellipsoids and the reverse.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from reprod.config import Config, at_scale
from reprod.data.geomnist import CLASSES as SHAPES
from reprod.errors import BadInput
from reprod.figures import style
from reprod.figures.figure import Runs
from reprod.le_sde import drift, estimate

PAPER = "Zhang et al. 2021"
OBJECTS = ("plane", "car", "bird")
COLOURS = (style.BLUE, style.ORANGE, style.GREEN)
MARKERS = ("o", "s", "^")
WINDOW = {"geomnist_dynamics": 151, "cifar_dynamics": 551}
ENSEMBLES = {"paper": 5, "small": 5, "smoke": 1}
ONE_PIXEL = "one pixel of the stored picture"
Array = np.ndarray
C = TypeVar("C", bound=Config)


def ensembles(cls: type[C], scale: str, **settings: Any) -> list[C]:
    """Independent ensembles: seed s has its own data, too. The first one is that of the default parameters."""
    return [at_scale(cls, scale, seeds=(s,), data_seed=s, **settings) for s in range(ENSEMBLES[scale])]


def first(runs: Runs) -> tuple[Any, Any]:
    """The configuration and record that are drawn, where there are several ensembles."""
    for config, records in runs:
        if records:
            return config, records[0]
    raise BadInput(f"nothing to draw: no ensemble finished ({'; '.join(runs.failed) or 'none was asked for'})")


def lost(runs: Runs) -> int:
    """How many ensembles ended without a result: every claim counts them."""
    return sum(not records for _, records in runs)


def names(config: Config) -> tuple[str, ...]:
    return SHAPES if config.experiment == "geomnist_dynamics" else OBJECTS


def title(config: Config) -> str:
    return "GeoMNIST" if config.experiment == "geomnist_dynamics" else "CIFAR-10, K = 3"


def letter(ax: Any, text: str) -> None:
    ax.set_title(text, loc="left", fontweight="bold")


def means(record: Any) -> Array:
    """Class means (T, K, K), NaN in empty cells."""
    return np.asarray(record.array("class_means"))


# -- curves -----------------------------------------------------------------------------------------------------------


def plot_grid(steps: int) -> Array:
    """Iterations 0, 5, 10, ... and the last one."""
    return np.append(np.arange(0, steps - 1, 5), steps - 1)


def line(series: Array) -> tuple[Array, Array]:
    """The published line through a curve's dots: times (M,) of the plot grid, rolling mean of ten of them."""
    grid = plot_grid(len(series))
    return grid, estimate.rolling(series[grid])


def level(series: Array, t: int, width: int = 40) -> float:
    """Median of a curve around iteration t, without missing values and spikes; NaN where the curve ends before."""
    if t + width // 2 > len(series):
        return math.nan
    values = np.asarray(series)[t - width // 2 : t + width // 2]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan


def band(values: Array) -> tuple[Array, Array]:
    """Mean (M,) over the second axis of (M, n), and the half width of its 95 % interval (Student's t)."""
    from scipy import stats

    n = values.shape[1]
    half = stats.t.ppf(0.975, n - 1) * values.std(axis=1, ddof=1) / math.sqrt(n) if n > 1 else np.full(len(values), 0.0)
    return values.mean(axis=1), half


# -- examples ---------------------------------------------------------------------------------------------------------


def example_means(A: Array, B: Array | float = 0.0, start: float = 0.01) -> Array:
    """Class means (T, 3, 3) of an I-model with these integrals, for counter-examples."""
    return drift.solution_i(start * (drift.directions(3) + np.array([0.1, 0.2, -0.1])), A, B + 0 * A)


def jitter(index: int, size: float) -> float:
    """Something that differs from ensemble to ensemble, for counter-examples: -size ... size."""
    return size * math.cos(2.4 * index)
