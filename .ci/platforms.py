"""Whether requirements.lock can be installed on every platform that the README names: a table, from uv's dry runs.

Only the index is asked, nothing is downloaded. "wheels" means that no package would have to be built there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux x86-64": "x86_64-unknown-linux-gnu",
    "Linux ARM": "aarch64-unknown-linux-gnu",
    "macOS 14 ARM": "aarch64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
}


def resolve(platform: str, python: str, lock: Path = LOCK) -> tuple[bool, str]:
    """(whether it resolves, how many packages or why not)."""
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--target", empty, "--only-binary", ":all:",
             "--python-platform", platform, "--python-version", python, "--require-hashes", "-r", str(lock)],
            capture_output=True, text=True, env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"},
        )  # fmt: skip
    found = re.search(r"Would install (\d+) packages", done.stderr)
    if done.returncode == 0 and found:
        return True, f"{found[1]} wheels"
    return False, " ".join(done.stderr.split()).partition("cause: ")[2][:150] or done.stderr.strip()[-150:]


def main() -> int:
    bad = []
    print("requirements.lock".ljust(18), *(f"Python {python}".ljust(14) for python in PYTHONS))
    for name, platform in PLATFORMS.items():
        row = [resolve(platform, python) for python in PYTHONS]
        print(name.ljust(18), *((words if good else "NO").ljust(14) for good, words in row), flush=True)
        bad += [f"{name}, {python}: {words}" for python, (good, words) in zip(PYTHONS, row, strict=True) if not good]
    print(*bad, sep="\n", end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
