"""`reprod doctor`: what this machine has and lacks, in lines that a person can act on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.requirements import Requirement

from reprod import __version__, data, project
from reprod.errors import BadInput, masked
from reprod.jobs import launch


def report(uri: str | None = None) -> int:
    """Print the findings; the exit status is 1 if something that every run needs is missing."""
    bad = False
    for good, what, finding in findings(uri):
        mark = {True: "ok  ", False: "BAD ", None: "--  "}[good]
        bad |= good is False
        print(f"{mark}{what:<22} {finding}")
    return 1 if bad else 0


def findings(uri: str | None) -> Iterator[tuple[bool | None, str, str]]:
    """(True: fine, False: broken, None: not here, and not always needed), what, finding."""
    yield True, "reprod", f"{__version__}, Python {sys.version.split()[0]}"
    folder = project.root()
    yield (folder is not None or None), "checkout", str(folder or "none found: `mlflow run` needs one")
    yield from _managers()
    yield _locked(folder)
    yield from _half_environments()
    yield from _data()
    yield _store(uri)
    yield _devices()
    slurm = shutil.which("sbatch")
    yield (True if slurm else None), "Slurm", slurm or "no sbatch on PATH: --launcher local works without"
    try:
        project.writable(project.cache_dir(), "REPROD_CACHE")
    except BadInput as error:
        yield False, "work in progress", str(error)
        return
    spool = list((project.cache_dir() / "spool").glob("*.jsonl"))
    yield (None if spool else True), "undelivered", f"{len(spool)} runs wait: `reprod sync`" if spool else "nothing"


def _managers() -> Iterator[tuple[bool | None, str, str]]:
    flags = {
        "local": "`mlflow run . --env-manager local` and `reprod run` use this environment",
        "conda": "`mlflow run .` works as typed"
        + (", by bootstrap's stand-in (there is no conda): in this environment" if launch.conda_stands_in() else ""),
        "uv": "`mlflow run . --env-manager uv` works",
        "virtualenv": "`mlflow run . --env-manager virtualenv` works",
    }
    usable = launch.managers()
    for manager, lack in usable.items():
        if manager == "virtualenv" and not lack:
            yield None, "manager virtualenv", f"{flags[manager]}{_pyenv()}"
            continue
        yield (None if lack else True), f"manager {manager}", lack or flags[manager]
    if usable["conda"]:
        others = [manager for manager in ("local", "uv") if not usable[manager]]
        advice = f"add --env-manager {others[0]}" if others else "install uv: pip install uv"
        yield None, "bare `mlflow run .`", f"fails here (no conda) and leaves a run behind as RUNNING: {advice}"


def _pyenv() -> str:
    """What pyenv must do first, in words: MLflow asks it for the newest Python of the version in conda.yaml."""
    import subprocess

    wanted = ".".join(map(str, sys.version_info[:2]))
    try:
        listed, root = (
            subprocess.run(["pyenv", *words], capture_output=True, text=True, timeout=20, check=True).stdout
            for words in (["install", "--list"], ["root"])
        )
    except (OSError, subprocess.SubprocessError):
        return ", if pyenv does: it answered nothing here"
    newest = [line.strip() for line in listed.splitlines() if line.strip().startswith(f"{wanted}.")][-1:]
    if not newest:
        return f" not: this pyenv knows no Python {wanted}"
    if (Path(root.strip()) / "versions" / newest[0]).is_dir():
        return ""
    return f" once pyenv has downloaded and built Python {newest[0]}, which takes the network, a compiler and minutes"


def _locked(folder: Path | None) -> tuple[bool | None, str, str]:
    path = folder / "requirements.lock" if folder else None
    if path is None or not path.exists():
        return None, "lock", "no requirements.lock here"
    lines = [line.rstrip("\\") for line in path.read_text().splitlines() if "==" in line.partition(" ")[0]]
    here = [pin for pin in map(Requirement, lines) if pin.marker is None or pin.marker.evaluate()]
    wanted = {pin.name: str(pin.specifier).removeprefix("==") for pin in here}
    have = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions() if d.metadata["Name"]}
    if have.get("torch", "").endswith("+cpu"):  # bootstrap.py --cpu
        wanted = {name: v for name, v in wanted.items() if not name.startswith(("nvidia-", "cuda-", "triton"))}
    wrong = [f"{n} {have[n]}, lock {v}" for n, v in wanted.items() if n in have and have[n].partition("+")[0] != v]
    lacking = [name for name in wanted if name not in have]
    if wrong or lacking:
        shown = "; ".join([*wrong[:3], *([f"{len(lacking)} not installed"] if lacking else [])])
        return None, "lock", f"this environment differs from requirements.lock: {shown}"
    return True, "lock", f"{len(wanted)} packages as pinned in requirements.lock ({project.lock_digest()})"


def _half_environments() -> Iterator[tuple[bool | None, str, str]]:
    """MLflow takes any folder of the right name for a finished environment, also one whose installation was killed."""
    root = Path(os.environ.get("MLFLOW_ENV_ROOT") or Path.home() / ".mlflow" / "envs")
    for folder in sorted(root.glob("mlflow-*")):
        if not list(folder.glob("lib/python*/site-packages/torch/__init__.py")):
            yield None, "half environment", f"{folder} lacks torch: its installation was cut off; remove the folder"


def _data() -> Iterator[tuple[bool | None, str, str]]:
    from reprod.data import images

    root = data.folder()
    for name in images.NAMES:
        wrong = images.faults(name)
        if not wrong:
            yield True, f"data {name}", f"{root / images.FILES[name][0]}, every file as it should be"
        elif set(wrong.values()) == {"missing"} and len(wrong) == len(images.FILES[name][1]):
            yield None, f"data {name}", f"not in {root}: downloaded at first use, or `reprod data {name}`"
        else:
            files = ", ".join(f"{file} {what}" for file, what in wrong.items())
            yield None, f"data {name}", f"{root / images.FILES[name][0]}: {files}; `reprod data {name}` fetches it anew"


def _store(uri: str | None) -> tuple[bool, str, str]:
    from reprod.store.connection import connect

    try:
        client = connect(uri)
    except BadInput as error:
        return False, "store", str(error)
    found = len(client.search_experiments())
    return True, "store", f"{masked(client.tracking_uri)}: {found} experiments, MLflow {version('mlflow')}"


def _devices() -> tuple[bool | None, str, str]:
    try:
        import torch
    except ImportError:
        return False, "torch", "cannot be imported"
    try:
        version("torchvision")
    except PackageNotFoundError:
        return False, "torchvision", "not installed"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return True, "devices", f"{torch.get_num_threads()} CPU threads; " + (", ".join(names) or "no CUDA device")
