"""The same commands on SQLite with many writers, and on a tracking server with PostgreSQL, proxied artifacts and
authentication; a server that dies in mid-run costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from reprod import store
from reprod.config import resolve
from reprod.jobs import launch, plan, pool
from reprod.store import connection, outbox, writer
from tests.core.toy import Toy
from tests.e2e.conftest import BIN, Server, command
from tests.workers import processes, write_metrics

pytestmark = pytest.mark.xdist_group("stores")


SMOKE = ("-P", "scale=smoke", "-P", "step_size=0.5")


def test_eight_writers_on_one_sqlite_store_lose_nothing(store_uri: str):
    jobs = [plan.Job(job) for job in plan.grid("xor_fan", {"scale": "smoke", "gamma": "11,12,13,14,15,16,17,18"})]
    assert len(jobs) == 8
    outcomes = pool.run_all(jobs, pool.Options(workers=8))
    assert [o.state for o in outcomes] == ["finished"] * 8, pool.summary(outcomes)
    records = store.Store().search("xor_fan")
    assert len(records) == 8
    assert {r.status for r in records} == {"FINISHED"}
    assert not list((connection.cache_dir() / "spool").glob("*")), "no message had to be kept"


def test_eight_processes_with_thousands_of_metrics_each(store_uri: str):
    environment = {name: os.environ[name] for name in ("MLFLOW_TRACKING_URI", "REPROD_CACHE")}
    writers = [processes().Process(target=write_metrics, args=(environment, 400)) for _ in range(8)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(240)
    records = store.Store().search("toy", extra="attributes.status = 'FINISHED'")
    assert len(records) == 8
    for record in records:
        for name in ("m0", "m4"):
            assert list(record.history(name)) == [float(step) for step in range(400)]


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_server_with_postgresql_proxied_artifacts_and_authentication(
    postgresql: str, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server = Server(tmp_path, postgresql, auth=True)
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        refused = command("reprod", "run", "sphere_ode", *SMOKE, check=False)
        assert refused.returncode == 2
        assert "cannot reach the store" in refused.stderr
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse-battery")
        done = command("reprod", "run", "sphere_ode", *SMOKE, "-P", "seeds=0,1")
        assert "FINISHED" in done.stdout
        frame = store.runs("sphere_ode")
        assert sorted(frame.seed) == [0, 1]
        record = store.Store().get(frame.run_id[0])
        assert record.entity.info.artifact_uri.startswith("mlflow-artifacts:")
        assert record.array("loss").ndim == 1
        assert sum(p.numel() for p in record.model().parameters()) > 0
        assert "no runs" not in command("reprod", "status").stdout
        assert command("reprod", "verify", record.id).returncode == 0
    finally:
        server.stop(signal.SIGTERM)


@pytest.mark.server
@pytest.mark.timeout(900)
def test_a_server_killed_and_restarted_in_mid_run_costs_no_metric(
    store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    server = Server(tmp_path, f"sqlite:///{tmp_path}/server.db")
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        monkeypatch.setattr(outbox.Outbox, "INTERVAL", 0.1)
        run = writer.open_run(resolve(Toy, {}))
        with writer.recording(run):
            for step in range(60):
                run.log(step, {"m": float(step)})
                if step == 20:
                    server.stop(signal.SIGKILL)
                if step == 40:
                    server.start()
                time.sleep(0.05)
            run.array("a", np.arange(3), axes=("i",))
        assert "the store does not answer" in capsys.readouterr().err
        record = store.Store().get(run.run_id)
        assert record.status == "FINISHED"
        assert list(record.history("m").index) == list(range(60))
        assert list(record.array("a")) == [0, 1, 2]
        # and one that stays away: the messages are kept, and delivered later
        monkeypatch.setenv("REPROD_PATIENCE", "1")
        away = writer.open_run(resolve(Toy, {"rate": "0.5"}))
        with writer.recording(away):
            time.sleep(0.5)
            server.stop(signal.SIGKILL)
            away.log(1, {"m": 1.0})
        server.start()
        assert store.Store().get(away.run_id).status == "RUNNING"
        assert "0 still wait" in command("reprod", "sync").stdout
        assert store.Store().get(away.run_id).status == "FINISHED"
        assert store.Store().get(away.run_id).history("m")[1] == 1.0
    finally:
        server.stop()


def test_a_full_disk_is_a_clear_failure_and_nothing_is_lost_silently(store_uri: str, tmp_path: Path, monkeypatch):
    """A work folder on a full file system: the run fails with the reason, and its metrics are there."""
    full = tmp_path / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(full)], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs privileges that this machine does not give")
    try:
        monkeypatch.setenv("REPROD_CACHE", str(full))
        run = writer.open_run(resolve(Toy, {}))
        run.log(1, {"m": 1.0})
        with pytest.raises(OSError, match="No space left"), writer.recording(run):
            run.array("large", np.zeros(100_000), axes=("i",))
        record = store.Store().get(run.run_id)
        assert record.status == "FAILED"
        assert "No space left" in record.failure
        assert record.history("m")[1] == 1.0
    finally:
        subprocess.run(["umount", str(full)], check=False)


def test_a_read_only_artifact_folder_keeps_the_artifacts_for_sync(store_uri: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("REPROD_PATIENCE", "1")
    monkeypatch.setattr(outbox.Outbox, "INTERVAL", 0.05)
    run = writer.open_run(resolve(Toy, {}))
    folder = Path(run.client.get_run(run.run_id).info.artifact_uri)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file stands where the folder should be")  # root writes into read-only folders, but not here
    with writer.recording(run):
        run.array("a", np.arange(3), axes=("i",))
    assert list((connection.cache_dir() / "spool").glob("*.jsonl"))
    folder.unlink()
    run.outbox.join(10)  # its thread holds the spool until it ends
    delivered, waiting = outbox.sync(connection.connect())
    assert delivered >= 2
    assert waiting == 0
    record = store.Store().get(run.run_id)
    assert record.status == "FINISHED"
    assert list(record.array("a")) == [0, 1, 2]


def test_the_project_runs_through_mlflow_itself(store_uri: str, tmp_path: Path):
    """`mlflow run . --env-manager local`: typed and resolved spellings are the same run, found by the short form."""
    root = str(Path(__file__).resolve().parents[2])
    words = ["mlflow", "run", root, "--env-manager", "local", "-e", "sphere_ode"]
    command(*words, *SMOKE, "-P", "lr=1e-3", "--experiment-name", "mine")
    (record,) = store.Store().search("sphere_ode")
    assert record.status == "FINISHED"
    assert record.tags["mlflow.source.type"] == "PROJECT"
    again = resolve(type(record.config), {"scale": "smoke", "step_size": "5e-1", "lr": "0.001"})
    assert store.Store().find(again) is not None
    # bad input: MLflow made the run first, so it ends FAILED with the sentence as its reason
    bad = command(*words, "-P", "step_size=-1", check=False)
    assert bad.returncode != 0
    failed = [r for r in connection.connect().search_runs(["0"]) if r.info.status == "FAILED"]
    assert failed[0].data.tags["reprod.failure"] == "step_size=-1: must be at least 0.0001"
    assert json.dumps(failed[0].data.tags)
    # resume through the same door
    killed = writer.open_run(resolve(type(record.config), {**record.config.spelled(), "learning_rate": "0.002"}))
    killed.settle("KILLED")
    killed.close()
    command(*words, "-P", f"resume={killed.run_id}")
    assert store.Store().get(killed.run_id).status == "FINISHED"
    assert BIN.exists()
    assert launch.managers()["local"] == ""
