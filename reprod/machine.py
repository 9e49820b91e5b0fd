"""Which device a run computes on, and how work without the GIL is shared out over threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, TypeVar

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
