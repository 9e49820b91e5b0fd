"""Set up reprod's environment in .venv, once, then run a command in it. Needs Python 3.11 and pip, nothing else.

python3 bootstrap.py reprod run cifar_ode -P tol=0.001 -P scale=small
python3 bootstrap.py pytest
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / "reprod-lock.sha256"  # written last: an installation that was cut off is taken up again


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 (this file is run before anything checks)
        sys.exit(f"reprod needs Python 3.11 or later, this is {sys.version.split()[0]}")
    inputs = b"".join((ROOT / name).read_bytes() for name in ("requirements.lock", "pyproject.toml"))
    wanted = hashlib.sha256(inputs).hexdigest()
    if not STAMP.exists() or STAMP.read_text() != wanted:
        install()
        STAMP.write_text(wanted)
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV), "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    if sys.argv[1:]:
        sys.exit(subprocess.run(sys.argv[1:], env=environment, check=False, executable=program(sys.argv[1])).returncode)
    print(f"reprod is set up; to use it: source {BIN / 'activate'}")


def install() -> None:
    """The locked packages (about 6 GB, most of it torch's CUDA build), then this checkout in editable form."""
    print("reprod: setting up .venv from requirements.lock", file=sys.stderr, flush=True)
    tool = ROOT / ".venv-uv"
    if not (tool / "uv").exists():
        run(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tool), "uv")
    os.environ["PYTHONPATH"] = str(tool)
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(VENV))
    into = ("--quiet", "--python", str(BIN / "python"))
    run(*uv, "pip", "install", *into, "--compile-bytecode", "--require-hashes", "-r", str(ROOT / "requirements.lock"))
    run(*uv, "pip", "install", *into, "--no-deps", "--editable", str(ROOT))
    del os.environ["PYTHONPATH"]


def run(*command: str) -> None:
    status = subprocess.run(command, check=False).returncode
    if status:
        sys.exit(f"reprod: {' '.join(command[:6])} ... failed with status {status}")


def program(name: str) -> str:
    ours = BIN / name
    return str(ours) if ours.exists() else name


if __name__ == "__main__":
    main()
