"""Which device a run computes on, and how work without the GIL is shared out over threads."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from reprod.project import cache_dir

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def device_of(name: str) -> torch.device:
    """`auto` (a CUDA device where there is one), `cpu`, `cuda` or `cuda:N`."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def cores() -> int:
    """How many cores this process may use. Only Linux tells which; elsewhere it is all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_devices() -> list[str]:
    """The CUDA devices that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def share(function: Callable[[int], T], count: int, threads: int | None = None) -> list[T]:
    """`[function(0), ..., function(count - 1)]`, in contiguous pieces, one for each of torch's threads.

    For functions that release the GIL (compiled kernels). An exception, Ctrl-C included, keeps no thread longer than
    the call that it is in.
    """
    import torch

    workers = min(threads or torch.get_num_threads(), count)
    if workers <= 1:
        return [function(i) for i in range(count)]
    stopped = Event()

    def some(piece: range) -> list[T]:
        return [function(i) for i in piece if not stopped.is_set()]

    pieces = [range(count * k // workers, count * (k + 1) // workers) for k in range(workers)]
    try:
        return [value for values in _pool().map(some, pieces) for value in values]
    except BaseException:
        stopped.set()
        raise


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="reprod")


# -- how fast -------------------------------------------------------------------------------------------------------

CALIBRATION = 1.0  # seconds


@cache
def calibration() -> float:
    """Seconds that a fixed piece of work takes on one core of this machine: small matrix products, elementwise
    functions and plain Python, as in our experiments. Measured for about a second, the fastest of many rounds, and kept
    in the cache, so that it is the same every time."""
    kept = cache_dir() / "calibration.json"
    try:
        known = json.loads(kept.read_text())
    except (OSError, ValueError):
        known = {}
    here = f"{platform.node()} {platform.machine()}"
    if here not in known:
        known[here] = _measured()
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(known))
    return known[here]


def _measured() -> float:
    import numpy as np

    matrix, vector = np.full((48, 48), 0.01, np.float32), np.linspace(0, 1, 20_000)
    best, began = math.inf, time.perf_counter()
    while best == math.inf or time.perf_counter() - began < CALIBRATION:
        start = time.perf_counter()
        for _ in range(200):
            matrix @ matrix
        for _ in range(10):
            np.exp(vector)
        sum(i * i for i in range(20_000))
        best = min(best, time.perf_counter() - start)
    return float(f"{best:.2g}")
