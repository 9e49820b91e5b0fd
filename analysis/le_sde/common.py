"""What several figures of Zhang et al. (2021) share.

Published numbers were digitised from the pictures of the first implementation, which had no seeds: only statistical
agreement is possible. Class names are corrected: the published legends call triangles ellipsoids and the reverse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from reprod.config import Config
from reprod.data.geomnist import CLASSES as SHAPES
from reprod.figures import style
from reprod.figures.figure import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, Claim, Runs
from reprod.le_sde import estimate

PAPER = "Zhang et al. 2021"
OBJECTS = ("plane", "car", "bird")
COLOURS = (style.BLUE, style.ORANGE, style.GREEN)
MARKERS = ("o", "s", "^")
WINDOW = {"geomnist_dynamics": 151, "cifar_dynamics": 551}
Array = np.ndarray


def names(config: Config) -> tuple[str, ...]:
    return SHAPES if config.experiment == "geomnist_dynamics" else OBJECTS


def title(config: Config) -> str:
    return "GeoMNIST" if config.experiment == "geomnist_dynamics" else "CIFAR-10, K = 3"


def plot_grid(steps: int) -> Array:
    """Iterations 0, 5, 10, ... and the last one."""
    return np.append(np.arange(0, steps - 1, 5), steps - 1)


def means(record: Any) -> Array:
    """Class means (T, K, K), NaN in empty cells."""
    return np.asarray(record.array("class_means"))


def letter(ax: Any, text: str) -> None:
    ax.set_title(text, loc="left", fontweight="bold")


def near(
    runs: Runs, name: str, statement: str, published: float, tolerance: float, value: float, *, source: str,
    spread: tuple[float, float] = (math.nan, math.nan), n: int = 0, ids: Sequence[str] = (), reason: str = "",
    digits: int = 2,
) -> Claim:  # fmt: skip
    """A claim about a number: reproduced where our value, or its interval, meets published +- tolerance."""
    low, high = published - tolerance, published + tolerance
    meets = low <= value <= high or (math.isfinite(spread[0]) and spread[0] <= high and spread[1] >= low)
    ours = f"{value:.{digits}f}" + (
        f" [{spread[0]:.{digits}f}, {spread[1]:.{digits}f}]" if math.isfinite(spread[0]) else ""
    )
    return Claim(
        name, statement, source, f"{published:g} +- {tolerance:g}", ours, REPRODUCED if meets else NOT_REPRODUCED,
        value=value, interval=spread, n=n, reason=reason, run_ids=tuple(ids) or runs.ids,
    )  # fmt: skip


def holds(
    runs: Runs, name: str, statement: str, published: str, ours: str, true: bool, *, source: str,
    value: float = math.nan, n: int = 0, ids: Sequence[str] = (), reason: str = "",
) -> Claim:  # fmt: skip
    """A claim that is true or not."""
    verdict = REPRODUCED if true else NOT_REPRODUCED
    return Claim(
        name,
        statement,
        source,
        published,
        ours,
        verdict,
        value=value,
        n=n,
        reason=reason,
        run_ids=tuple(ids) or runs.ids,
    )


def too_small(runs: Runs, source: str, statement: str) -> list[Claim]:
    reason = "a smoke run ends before anything is learnt"
    return [Claim("scale", statement, source, "", "", NOT_COMPARABLE, reason=reason, run_ids=runs.ids)]


def resampled_means(logits: Array, labels: Array, times: Array, draws: int = 200) -> Array:
    """Class means (draws, times, K, K) of trials drawn with replacement."""
    rng = np.random.default_rng(0)
    trials, _, K = logits.shape
    weights = rng.multinomial(trials, np.full(trials, 1 / trials), size=draws)
    chosen, of = np.asarray(logits[:, times], dtype=float), np.eye(K)[np.asarray(labels[:, times])]
    total = np.einsum("br,rtk,rtj->btkj", weights, of, chosen, optimize=True)
    count = np.einsum("br,rtk->btk", weights, of, optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count[..., None] > 0, total / count[..., None], np.nan)


def growth(record: Any, first: int, last: int, width: int = 40) -> tuple[float, tuple[float, float]]:
    """A(last) - A(first) of the I-model, each the mean of `width` iterations, with a bootstrap interval over trials.
    Increments do not depend on iteration 0."""
    times = np.concatenate([np.arange(t - width // 2, t + width // 2) for t in (first, last)])

    def increment(chosen: Array) -> float:
        A, _ = estimate.i_model(chosen)
        return float(np.nanmean(A[width:]) - np.nanmean(A[:width]))

    value = increment(means(record)[times])
    drawn = [increment(m) for m in resampled_means(record.array("logits"), record.array("labels"), times)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return value, (float(low), float(high))


def late_median(series: Array) -> float:
    """Mean over the last 2 % of a curve, without missing values and spikes."""
    values = np.asarray(series)[-max(1, len(series) // 50) :]
    return float(np.median(values[np.isfinite(values)]))


def crossing_of(x: Array, y: Array, level: float = 1.0) -> float:
    """Where y first rises through `level`, by linear interpolation; NaN where it does not."""
    for i in range(len(x) - 1):
        if y[i] < level <= y[i + 1]:
            return float(x[i] + (level - y[i]) / (y[i + 1] - y[i]) * (x[i + 1] - x[i]))
    return math.nan
