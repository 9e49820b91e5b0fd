"""The Slurm launcher and MLflow's door to it, on a real one-node cluster."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from reprod.store import Store
from tests.e2e.conftest import BIN, ROOT, command, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(900)]

SWEEP = ("-P", "scale=smoke", "-P", "step_size=0.5,0.25", "-P", "seeds=0")
SLURM = ("-S", "time_minutes=10", "-S", "mem_gb=1", "-S", "partition=main")


def test_the_same_sweep_locally_and_on_slurm_gives_equal_metrics(slurm: Path, store_uri: str, tmp_path: Path):
    on_slurm = command("reprod", "sweep", "sphere_ode", *SWEEP, "--launcher", "slurm", "--workers", "2", *SLURM)
    assert "2 finished" in on_slurm.stdout
    first = {record.digest: record for record in Store().search("sphere_ode")}
    assert len(first) == 2
    assert all(r.status == "FINISHED" and r.tags["reprod.slurm_job"] and r.parent_id for r in first.values())
    locally = command("reprod", "sweep", "sphere_ode", *SWEEP, "--workers", "2", "--again")
    assert "2 finished" in locally.stdout
    for record in Store().search("sphere_ode"):
        if record.tags["reprod.slurm_job"]:
            continue
        twin = first[record.digest]
        timeless = [{k: v for k, v in r.metrics.items() if k != "seconds"} for r in (record, twin)]
        assert timeless[0] == timeless[1]
        np.testing.assert_array_equal(record.array("loss"), twin.array("loss"))


def test_a_preempted_job_is_requeued_and_resumes_behind_its_checkpoint(slurm: Path, store_uri: str, tmp_path: Path):
    """Slurm's warning (SIGUSR2) makes a checkpoint; the requeued job goes on there and ends like an unbroken run."""
    words = ["-P", "scale=smoke", "-P", "niter=8000", "-P", "eval_every=1000", "-P", "checkpoint_every=200"]
    sweep = subprocess.Popen(
        [str(BIN / "reprod"), "sweep", "sphere_ode", *words, "--launcher", "slurm", *SLURM],
        stdout=subprocess.PIPE,
        text=True,
    )
    job = ""

    def training() -> bool:
        nonlocal job
        runs = Store().search("sphere_ode")
        job = runs[0].tags["reprod.slurm_job"] if runs else ""
        return bool(runs) and bool(list((tmp_path / "cache" / "runs").glob("*/checkpoints/*.pt")))

    wait_for(training, 120, "the job did not start")
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    wait_for(lambda: Store().search("sphere_ode")[0].status == "KILLED", 60, "no checkpoint after the warning")
    while sweep.poll() is None:  # Slurm holds a requeued job for two minutes: let it go
        time.sleep(4)  # for a moment its old credential is revoked, and a job that starts then is killed
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, check=False)
    out, _ = sweep.communicate()
    (record,) = Store().search("sphere_ode")
    assert record.status == "FINISHED", out
    command("reprod", "run", "sphere_ode", *words)
    whole = next(r for r in Store().search("sphere_ode") if r.id != record.id)
    np.testing.assert_array_equal(record.array("loss"), whole.array("loss"))


def test_mlflow_run_with_our_backend(slurm: Path, store_uri: str, tmp_path: Path):
    config = tmp_path / "slurm.json"
    config.write_text(json.dumps({"time_minutes": 10, "mem_gb": 1, "partition": "main"}))
    words = ["mlflow", "run", str(ROOT), "-b", "reprod-slurm", "-c", str(config), "-e", "sphere_ode"]
    done = command(*words, "-P", "scale=smoke", "-P", "step_size=5e-1")
    assert "is Slurm job" in done.stdout
    wait_for(lambda: Store().search("sphere_ode")[:1] != [], 90, "the job did not start")
    wait_for(lambda: Store().search("sphere_ode")[0].status != "RUNNING", 120, "the job did not end")
    (record,) = Store().search("sphere_ode")
    assert record.status == "FINISHED"
    assert record.tags["mlflow.project.backend"] == "reprod-slurm"
    bad = command(*words, "-P", "step_sise=1", check=False)
    assert bad.returncode != 0
    assert "did you mean step_size?" in bad.stderr + bad.stdout
    assert len(Store().search("sphere_ode")) == 1
