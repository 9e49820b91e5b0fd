"""Who made a run, from what, where: its tags."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from reprod import __version__, project
from reprod.config import Config, spell
from reprod.store.liveness import slurm_job


def provenance(config: Config) -> dict[str, str]:
    """Who made this run, from what, where: the tags of `design.md`."""
    import psutil

    commit, dirty = project.git_state()
    tags = {
        "reprod.paper": config.paper,
        "reprod.experiment": config.experiment,
        "reprod.scale": config.scale,
        "reprod.seed": spell(config.seeds),
        "reprod.digest": config.digest(),
        "reprod.config": json.dumps(config.spelled()),
        "reprod.version": __version__,
        "reprod.git_commit": commit,
        "reprod.git_dirty": spell(dirty),
        "reprod.lock": project.lock_digest(),
        "reprod.device": _device(config.device),
        "reprod.host": platform.node(),
        "reprod.cpu": cpu(),
        "reprod.threads": str(_threads()),
        "reprod.python": platform.python_version(),
        "reprod.packages": json.dumps(_packages()),
        "reprod.process": f"{os.getpid()}:{psutil.Process().create_time():.2f}",
        "mlflow.note.content": _note(config),
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": "reprod",
        "mlflow.project.entryPoint": config.experiment,
    }
    if commit:
        tags["mlflow.source.git.commit"] = commit

    return {**tags, "reprod.slurm_job": slurm_job()}


def _note(config: Config) -> str:
    about = (type(config).__doc__ or "").strip().splitlines()[0]
    figures = f"reprod figures --experiment {config.experiment}"
    return f"{about}\n\nMake it again: `{config.command()}`\n\nIts figures: `{figures}`"


def _device(device: str) -> str:
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return torch.cuda.get_device_name(torch.device("cuda" if device == "auto" else device))


def cpu() -> str:
    return f"{_cpu_name() or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _cpu_name() -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():  # Linux
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "torchvision", "torchdiffeq", "numpy", "scipy", "numba", "scikit-learn", "CMGDB", "mlflow"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
