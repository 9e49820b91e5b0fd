"""Whether somebody is at a run: its process or its Slurm job."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Run


SEEN = "reprod.seen"  # the tag with the time of the last sign of life; a run sends one every minute
SILENT = 600.0  # seconds without one, after which a run of another machine counts as dead
OLD = 86400.0  # the same for a run of a version that sent none, from its start


def alive(run: Run) -> str:
    """Who is at a run, in words; empty where nobody is: its process or its Slurm job is gone, or, where neither can be
    asked (another machine, a container that is gone), it has been silent for too long."""
    import platform

    import psutil

    tags = run.data.tags
    job = tags.get("reprod.slurm_job", "")
    if job and job != slurm_job() and shutil.which("squeue"):
        return f"Slurm job {job}" if _queued(job) else ""
    pid, _, created = tags.get("reprod.process", "").partition(":")
    if not pid.isdecimal():
        return ""
    if tags.get("reprod.host") != platform.node():
        return f"process {pid} on {tags.get('reprod.host')}" if silence(run) < (SILENT if SEEN in tags else OLD) else ""
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - _number(created)) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        same = False
    except psutil.AccessDenied:  # another user's, hidden from us: it is there
        same = True
    return f"process {pid}" if same else ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def silence(run: Run) -> float:
    """Seconds since the last sign of life of a run (since its start, where it sends none)."""
    seen = _number(run.data.tags.get(SEEN, "")) or run.info.start_time / 1000
    return max(0.0, time.time() - seen)


def gone(run: Run) -> str:
    """Why nobody is at a run, in words."""
    import platform

    host = run.data.tags.get("reprod.host")
    if host and host != platform.node():
        return f"not heard of for {silence(run) / 60:.0f} min (it ran on {host})"
    return "its process is gone"


def signature() -> dict[str, str]:
    """The tags by which others find out whether this process is alive."""
    import platform

    import psutil

    return {
        "reprod.host": platform.node(),
        "reprod.process": f"{os.getpid()}:{psutil.Process().create_time():.2f}",
        "reprod.slurm_job": slurm_job(),
        SEEN: str(int(time.time())),
    }


def slurm_job() -> str:
    """The Slurm job (or array task) that this process belongs to, as squeue names it; empty outside Slurm."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "")


def _queued(job: str) -> bool:
    import subprocess

    asked = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, check=False)
    return asked.returncode == 0 and bool(asked.stdout.strip())
