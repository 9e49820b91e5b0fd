"""Who made a run, from what, where: its tags."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from reprod import __version__, project
from reprod.config import Config, spell
from reprod.store.liveness import signature


def provenance(config: Config) -> dict[str, str]:
    """Who made this run, from what, where: the tags of `design.md`."""
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
        "reprod.git_dirty": project.UNKNOWN if dirty is None else spell(dirty),
        "reprod.lock": project.lock_digest(),
        "reprod.device": "cpu" if not _cuda(config.device) else project.UNKNOWN,  # known when it has run
        "reprod.cpu": cpu(),
        "reprod.threads": str(_threads()),
        "reprod.python": platform.python_version(),
        "reprod.packages": json.dumps(_packages()),
        "mlflow.note.content": _note(config),
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": "reprod",
        "mlflow.project.entryPoint": config.experiment,
    }
    if commit != project.UNKNOWN:
        tags["mlflow.source.git.commit"] = commit
    return {**tags, **signature()}


def _note(config: Config) -> str:
    about = (type(config).__doc__ or "").strip().splitlines()[0]
    figures = f"reprod figures --experiment {config.experiment} --scale {config.scale}"
    return f"{about}\n\nMake it again: `{config.command()}`\n\nIts figures: `{figures}`"


def _cuda(device: str) -> bool:
    import torch

    return device != "cpu" and torch.cuda.is_available()


def allocations() -> dict[int, int]:
    """How often this process has allocated memory on each CUDA device: none where it never used one."""
    import torch

    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    counts = {
        i: torch.cuda.memory_stats(i).get("allocation.all.allocated", 0) for i in range(torch.cuda.device_count())
    }
    return {device: count for device, count in counts.items() if count}


def device_since(before: Mapping[int, int]) -> str:
    """The device that this process has computed on since: a GPU that it allocated memory on, else the processor."""
    import torch

    used = [device for device, count in allocations().items() if count > before.get(device, 0)]
    return ", ".join(torch.cuda.get_device_name(device) for device in used) or "cpu"


def device_name(text: str) -> str:
    """`cuda:0` as the name of that GPU; other words as they are."""
    if text.partition(":")[0] != "cuda":
        return text
    import torch

    return torch.cuda.get_device_name(torch.device(text))


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
