"""The six size classes of deep linear networks (no torch: `config` reads them)."""

from __future__ import annotations

from dataclasses import dataclass

from reprod.training import stream


@dataclass(frozen=True)
class SizeClass:
    """Ranges (upper bound exclusive, as in the paper) of depth and width, and how the networks are sampled."""

    layers: tuple[int, int]
    widths: tuple[int, int]
    step_size: float
    sgld_steps: int
    n_train: int


SIZE_CLASSES = {
    "1K": SizeClass((2, 5), (5, 50), 5e-7, 10_000, 100_000),
    "10K": SizeClass((2, 10), (5, 100), 5e-7, 10_000, 100_000),
    "100K": SizeClass((2, 10), (50, 500), 1e-7, 50_000, 1_000_000),
    "1M": SizeClass((2, 20), (100, 1000), 5e-8, 50_000, 1_000_000),
    "10M": SizeClass((2, 20), (500, 2000), 2e-8, 50_000, 1_000_000),
    "100M": SizeClass((2, 40), (500, 3000), 2e-8, 50_000, 1_000_000),
}


def sample_widths(size_class: str, index: int, seed: int = 0) -> tuple[int, ...]:
    """Widths n_0..n_L of network `index` of a size class: depth first, then the layers, then the input."""
    if size_class not in SIZE_CLASSES:
        raise ValueError(f"size_class={size_class!r} is not one of {', '.join(SIZE_CLASSES)}")
    ranges = SIZE_CLASSES[size_class]
    rng = stream(seed, f"configuration/{size_class}/{index}")
    layers = rng.integers(*ranges.widths, size=rng.integers(*ranges.layers))
    return (int(rng.integers(*ranges.widths)), *map(int, layers))
