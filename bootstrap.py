"""Set up reprod's environment in .venv, once, then run a command in it. Needs Python 3.11 or later and pip.

python3 bootstrap.py reprod run cifar_ode -P tol=0.001 -P scale=small
python3 bootstrap.py pytest
python3 bootstrap.py --cpu ...      on Linux without a GPU: torch for the processor, without CUDA's libraries
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / "reprod-lock.sha256"  # written last: an installation that was cut off is taken up again
LOCK = ROOT / "requirements.lock"
CUDA = re.compile(r"(torch|torchvision|triton|nvidia-[\w-]+|cuda-[\w-]+)==")  # what differs without a GPU


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 (this file is run before anything checks)
        sys.exit(f"reprod needs Python 3.11 or later, this is {sys.version.split()[0]}")
    words = sys.argv[1:]
    had = STAMP.read_text().split() if STAMP.exists() else []
    cpu = words[:1] == ["--cpu"] or had[1:] == ["cpu"]  # once without CUDA, later calls need not say so again
    words = words[1:] if words[:1] == ["--cpu"] else words
    inputs = b"".join((ROOT / name).read_bytes() for name in ("requirements.lock", "pyproject.toml", "bootstrap.py"))
    wanted = [hashlib.sha256(inputs).hexdigest(), *(["cpu"] if cpu else [])]
    if had != wanted:
        install(cpu and sys.platform == "linux")
        stand_in()
        STAMP.write_text(" ".join(wanted))
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV), "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    if words:
        status = subprocess.run(words, env=environment, check=False, executable=program(words[0])).returncode
        if os.environ.get("VIRTUAL_ENV") != str(VENV):
            print(f"(commands like `reprod ...` need {activate()} first, or `python3 bootstrap.py` before them)")
        sys.exit(status)
    print(f"reprod is set up; to use it: {activate()}")


def activate() -> str:
    return str(BIN / "activate") if os.name == "nt" else f"source {shlex.quote(str(BIN / 'activate'))}"


def install(cpu: bool) -> None:
    """The locked packages (on Linux about 6 GB, most of it torch's CUDA build), then this checkout in editable form.

    With `cpu`, torch and torchvision of the locked versions come from PyTorch's own index of builds without CUDA, whose
    hashes the lock does not have; everything else is as locked.
    """
    print("reprod: setting up .venv from requirements.lock", file=sys.stderr, flush=True)
    tool = ROOT / ".venv-uv"
    if not (tool / "uv").exists():
        run(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tool), "uv")
    os.environ["PYTHONPATH"] = str(tool)
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(VENV))
    into = ("--quiet", "--python", str(BIN / "python"))
    lock = LOCK
    if cpu:
        blocks = re.split(r"\n(?=\S)", LOCK.read_text())
        lock = VENV / "requirements-without-cuda.lock"
        lock.write_text("\n".join(block for block in blocks if not CUDA.match(block)) + "\n")
    run(*uv, "pip", "install", *into, "--no-deps", "--compile-bytecode", "--require-hashes", "-r", str(lock))
    if cpu:
        torch = [block.split()[0] for block in blocks if re.match("torch(vision)?==", block)]
        run(*uv, "pip", "install", *into, "--torch-backend", "cpu", *torch)
    run(*uv, "pip", "install", *into, "--no-deps", "--editable", str(ROOT))
    del os.environ["PYTHONPATH"]


def run(*command: str) -> None:
    status = subprocess.run(command, check=False).returncode
    if status:
        sys.exit(f"reprod: {' '.join(command[:6])} ... failed with status {status}")


STAND_IN = """\
#!/bin/sh
# reprod's stand-in for conda, written by bootstrap.py where no conda was on PATH. `mlflow run .` asks conda for an
# environment with the packages of conda.yaml, which are those of requirements.lock: this environment has them.
# A real conda, as soon as there is one on PATH, gets every call.
here=$(cd "$(dirname "$0")" && pwd)
IFS=:
for folder in $PATH; do
    real=$folder/conda
    if [ -x "$real" ] && ! grep -qs "stand-in for conda" "$real"; then exec "$real" "$@"; fi
done
unset IFS
case "$*" in
"--help") echo "reprod's stand-in for conda: it answers mlflow run, and nothing else" ;;
"env list --json") echo '{"envs": []}' ;;
"env create -n mlflow-"*" --file "*)
    for file; do :; done  # the last argument
    if ! cmp -s "$(dirname "$file")/requirements.lock" "$here/../reprod-requirements.lock"; then
        echo "reprod: there is no conda here, and $here has other packages than $file asks for" >&2
        echo "reprod: install conda, use --env-manager uv, or (for reprod itself) run python3 bootstrap.py" >&2
        exit 1
    fi
    echo "reprod: no conda here; the environment with the packages of requirements.lock is ${here%/bin}" >&2 ;;
*)
    echo "reprod: this conda only stands in for the real one when mlflow run asks; it cannot: conda $*" >&2
    exit 1 ;;
esac
"""

ACTIVATE = """\
# From bootstrap.py: `source activate mlflow-...` is how MLflow enters an environment of conda, and may find this file.
case "${1:-}" in mlflow-*)
    for real in $(type -aP conda); do
        grep -qs "stand-in for conda" "$real" || { . "${real%/*}/activate" "$1"; return; }
    done ;;
esac
"""


def stand_in() -> None:
    """Let `mlflow run .` work as typed where there is no conda (see STAND_IN), and reach the real one where it is."""
    if os.name == "nt":
        return
    shutil.copyfile(LOCK, VENV / "reprod-requirements.lock")  # what is installed, whatever becomes of the checkout
    activate, conda = BIN / "activate", BIN / "conda"
    if ACTIVATE not in activate.read_text():
        activate.write_text(ACTIVATE + activate.read_text())
    others = [folder for folder in os.get_exec_path() if Path(folder).resolve() != BIN.resolve()]
    if conda.exists() or not shutil.which("conda", path=os.pathsep.join(others)):
        conda.write_text(STAND_IN)
        conda.chmod(0o755)


def program(name: str) -> str:
    ours = BIN / name
    return str(ours) if ours.exists() else name


if __name__ == "__main__":
    main()
