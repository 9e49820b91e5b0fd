"""Data sets. `folder(config)` says where they lie; every set has a sha256 that a run records."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def folder(data_dir: str = "auto") -> Path:
    """`auto`: `$REPROD_DATA`, else ~/.cache/reprod/data."""
    if data_dir != "auto":
        return Path(data_dir).expanduser()
    return Path(os.environ.get("REPROD_DATA") or Path.home() / ".cache" / "reprod" / "data").expanduser()


def digest(*arrays: np.ndarray) -> str:
    """sha256 over shapes, types and all bytes."""
    import numpy as np

    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape}{array.dtype}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
