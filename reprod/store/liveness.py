"""Whether somebody is at a run: its process or its Slurm job."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping


def alive(tags: Mapping[str, str]) -> str:
    """Who is at a run, in words; empty where its process, or its Slurm job, is known to be gone."""
    import platform

    import psutil

    job = tags.get("reprod.slurm_job", "")
    if job and job != slurm_job() and shutil.which("squeue"):
        return f"Slurm job {job}" if _queued(job) else ""
    pid, _, created = tags.get("reprod.process", "").partition(":")
    if not pid:
        return ""
    if tags.get("reprod.host") != platform.node():
        return f"process {pid} on {tags.get('reprod.host')}"
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(created)) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        same = False
    return f"process {pid}" if same else ""


def slurm_job() -> str:
    """The Slurm job (or array task) that this process belongs to, as squeue names it; empty outside Slurm."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "")


def _queued(job: str) -> bool:
    import subprocess

    asked = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, check=False)
    return asked.returncode == 0 and bool(asked.stdout.strip())
