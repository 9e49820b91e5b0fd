"""The checkout that this package runs from: where it is, at which commit, with which lock."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from reprod.errors import BadInput

UNKNOWN = "unknown"  # what provenance says of what cannot be found out


def cache_dir() -> Path:
    """Where work in progress and undelivered messages lie: `$REPROD_CACHE`, else ~/.cache/reprod."""
    if chosen := os.environ.get("REPROD_CACHE"):
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "reprod"
    except RuntimeError as error:
        raise BadInput(f"there is no home folder ({error}): let REPROD_CACHE name one for work in progress") from None


@cache
def root() -> Path | None:
    """The folder of MLproject: beside the package (a checkout), or above the current folder."""
    candidates = [Path(__file__).resolve().parent.parent, Path.cwd(), *Path.cwd().parents]
    return next((folder for folder in candidates if _is_ours(folder)), None)


def _is_ours(folder: Path) -> bool:
    path = folder / "MLproject"
    return path.is_file() and path.read_bytes().startswith(b"name: reprod")


def need_root() -> Path:
    found = root()
    if found is None:
        raise BadInput("no MLproject of reprod here or above: run this inside a checkout")
    return found


def _git(*arguments: str) -> bytes | None:
    """What git says; None where there is no checkout, or git cannot or will not read it (another user's, say)."""
    folder = root()
    if folder is None or not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@cache
def _commit() -> tuple[str, bool | None]:
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changed is None:
        return UNKNOWN, None
    return commit.decode("ascii", "replace").strip(), bool(changed)


def git_state() -> tuple[str, bool | None]:
    """(commit, whether what runs differs from it: a tracked file, or a module that was imported and is not tracked);
    ("unknown", None) where there is no git checkout, or git cannot tell."""
    commit, changed = _commit()
    return commit, changed if changed is None else changed or bool(untracked_sources())


@cache
def git_diff() -> bytes:
    """What differs from the commit, as a patch (bytes: a tracked file may have any encoding); empty where nothing
    does."""
    return (_git("diff", "HEAD") or b"") if _commit()[1] else b""


@cache
def _tracked() -> frozenset[str] | None:
    listed = _git("ls-files", "-z")
    return None if listed is None else frozenset(os.fsdecode(name) for name in listed.split(b"\0"))


def untracked_sources() -> list[Path]:
    """Sources in the checkout that this process has imported and that git does not track, relative to the checkout."""
    folder, tracked = root(), _tracked()
    if folder is None or tracked is None:
        return []
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.startswith(str(folder)) or not file.endswith(".py"):
            continue
        path = Path(file).resolve()
        if path.is_relative_to(folder) and not {"site-packages", "dist-packages"} & set(path.parts):
            found.add(path.relative_to(folder))
    return sorted(path for path in found if path.as_posix() not in tracked)


@cache
def lock_digest() -> str:
    folder = root()
    path = folder / "requirements.lock" if folder else None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path and path.exists() else ""


def writable(folder: Path, what: str) -> Path:
    """A folder, made where it is new. Raises `BadInput`, before anything else is made, where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(f"{what}: cannot write into {folder} ({error.strerror or error})") from error
    return folder


def seconds(name: str, default: float) -> float:
    """A number of seconds from the environment. Raises `BadInput` for what is none."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise BadInput(f"{name}={text}: expected a number of seconds")
    return value
