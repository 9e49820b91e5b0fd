"""Files that are whole or not there, and their sums. Needs no MLflow."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Any) -> None:
    """Write a file so that a kill or a full disk leaves the old one, or none, but never half of it."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
