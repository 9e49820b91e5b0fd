"""The checkout that this package runs from: where it is, at which commit, with which lock."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

from reprod.errors import BadInput


def cache_dir() -> Path:
    """Where work in progress and undelivered messages lie: `$REPROD_CACHE`, else ~/.cache/reprod."""
    return Path(os.environ.get("REPROD_CACHE") or Path.home() / ".cache" / "reprod")


@cache
def root() -> Path | None:
    """The folder of MLproject: beside the package (a checkout), or above the current folder."""
    candidates = [Path(__file__).resolve().parent.parent, Path.cwd(), *Path.cwd().parents]
    return next((folder for folder in candidates if _is_ours(folder)), None)


def _is_ours(folder: Path) -> bool:
    path = folder / "MLproject"
    return path.is_file() and path.read_text().startswith("name: reprod")


def need_root() -> Path:
    found = root()
    if found is None:
        raise BadInput("no MLproject of reprod here or above: run this inside a checkout")
    return found


def _git(*arguments: str) -> str | None:
    folder = root()
    if folder is None or not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@cache
def git_state() -> tuple[str, bool]:
    """(commit, whether tracked files differ from it); ("", False) outside a git checkout."""
    commit = (_git("rev-parse", "HEAD") or "").strip()
    return commit, bool(commit and _git("status", "--porcelain", "--untracked-files=no"))


@cache
def git_diff() -> str:
    """What differs from the commit, as a patch; empty where nothing does."""
    return (_git("diff", "HEAD") or "") if git_state()[1] else ""


@cache
def lock_digest() -> str:
    folder = root()
    path = folder / "requirements.lock" if folder else None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path and path.exists() else ""
