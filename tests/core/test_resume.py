"""Killed at any moment, continued to the same numbers, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from reprod import store, training
from reprod.config import resolve
from reprod.errors import BadInput, Interrupted
from reprod.jobs import launch
from reprod.store import checkpoints as checkpoints_
from reprod.store import connection, writer
from tests.core.toy import INSTALLED, Toy

CHILD = """
import sys
from reprod.jobs import launch
from reprod.store import outbox
outbox.Outbox.INTERVAL = 0.05
words = sys.argv[1:]
if words[0] == "resume":
    sys.exit(launch.guarded(lambda: launch.resume(words[1])))
sys.exit(launch.entry_point("toy")(words))
"""


def in_process(*words: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (INSTALLED, INSTALLED.parents[1])))}
    command = [sys.executable, "-c", CHILD, *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def curves(record: store.Record):
    return np.array(record.array("path")), record.history("walk/position")


@pytest.mark.parametrize("words", [["--seeds", "0,1"], ["--seeds", "0,1", "--batched", "false"]])
def test_kill_dash_nine_and_resume_is_bit_equal(toy, words):
    whole = resolve(Toy, {"seeds": "0,1", "batched": "true" if len(words) == 2 else "false"})
    assert launch.execute(whole) == 0
    reference = {r.seed: curves(r) for r in store.Store().search("toy") if r.seed is not None}
    client = connection.connect()
    for record in store.Store().search("toy"):
        client.delete_run(record.id)
    process = in_process(*words, "--checkpoint_every", "7", "--kill_at", "45")
    process.wait(60)
    assert process.returncode == -signal.SIGKILL
    (parent,) = [r for r in store.Store().search("toy") if r.seed is None]
    assert parent.status == "RUNNING"
    client.set_tag(parent.id, "reprod.config", parent.tags["reprod.config"].replace('"45"', '"none"'))
    again = in_process("resume", parent.id)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert "behind iteration 42" in said
    resumed = {r.seed: r for r in store.Store().search("toy") if r.seed is not None}
    assert store.Store().get(parent.id).status == "FINISHED" and len(resumed) == 2
    for seed, (path, position) in reference.items():
        np.testing.assert_array_equal(resumed[seed].array("path"), path)
        assert resumed[seed].history("walk/position").equals(position)


def test_state_round_trip_of_every_kind():
    generator, torch_generator = training.stream(1, "a"), training.torch_stream(1, "a")
    model = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    adam.step()
    table, curve = torch.arange(3.0), np.arange(3.0)
    scalars = {"h": 0.5, "k": 3, "name": "x", "none": None, "list": [1, 2]}
    state = training.State(
        model=model, adam=adam, g=generator, t=torch_generator, table=table, curve=curve, scalars=scalars
    )
    saved = state.dump()
    wanted = generator.normal(), torch.rand(2, generator=torch_generator), model.weight.detach().clone()
    with torch.no_grad():
        model.weight.zero_()
        table.zero_()
    curve[:] = 0
    scalars.update(h=9.0, list=[])
    state.load(saved)
    assert generator.normal() == wanted[0]
    assert torch.equal(torch.rand(2, generator=torch_generator), wanted[1])
    assert torch.equal(model.weight, wanted[2])
    assert table.tolist() == [0, 1, 2] and curve.tolist() == [0, 1, 2]
    assert scalars == {"h": 0.5, "k": 3, "name": "x", "none": None, "list": [1, 2]}


def test_streams_are_named_and_independent():
    draws = {(s, n): tuple(training.stream(s, n).normal(size=3)) for s in (0, 1) for n in ("init", "batches")}
    assert len(set(draws.values())) == 4
    assert draws[0, "init"] == tuple(training.stream(0, "init").normal(size=3))


@pytest.fixture
def checkpoints(toy, monkeypatch):
    """A run with two checkpoints, not finished."""
    run = writer.open_run(resolve(Toy, {"checkpoint_every": "20"}))
    run.save(20, {"x": torch.tensor(20.0)})
    run.save(40, {"x": torch.tensor(40.0)})
    run.settle("KILLED")
    assert run.close(30)
    return run


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "removed"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(checkpoints, capsys, damage):
    run = checkpoints
    path = store.Store().get(run.run_id).path("checkpoints") / "iteration-000000040.pt"
    content = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.write_bytes(b"")
        case "flipped":
            path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        case "removed":
            path.unlink()
    again = writer.open_run(run.config, resume=run.run_id)
    assert again.restore() == (20, {"x": torch.tensor(20.0)})
    said = capsys.readouterr().err
    assert "checkpoint iteration-000000040" in said and "cannot be used" in said
    again.settle("KILLED")
    again.close(10)


def test_checkpoints_come_from_the_store_when_the_work_folder_is_gone(checkpoints):
    assert not checkpoints.work.exists()
    again = writer.open_run(checkpoints.config, resume=checkpoints.run_id)
    assert again.restore() == (40, {"x": torch.tensor(40.0)})
    again.settle("KILLED")
    again.close(10)


def test_only_damaged_checkpoints_are_an_error_and_no_fresh_start(checkpoints):
    for path in store.Store().get(checkpoints.run_id).path("checkpoints").glob("*.pt"):
        path.write_bytes(b"x")
    again = writer.open_run(checkpoints.config, resume=checkpoints.run_id)
    with pytest.raises(BadInput, match="no checkpoint that can be read"), writer.recording(again):
        again.restore()


def test_a_checkpoint_of_another_configuration_is_refused(checkpoints):
    other = resolve(Toy, {"rate": "0.3"})
    again = writer.open_run(other, resume=checkpoints.run_id)
    with pytest.raises(BadInput, match="another configuration"), writer.recording(again):
        again.restore()


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "c.pt"
    checkpoints_.write_whole(path, lambda file: file.write(b"old"))

    def dies(file):
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints_.write_whole(path, dies)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_signals_write_a_checkpoint_and_settle_the_run(toy, monkeypatch, signum):
    config = resolve(Toy, {"niter": "2e6", "checkpoint_every": "2e6"})
    started, log = threading.Event(), writer.MlflowRun.log

    def logs(run, step, values) -> None:
        started.set()
        log(run, step, values)

    def stop() -> None:
        if started.wait(60):  # however long a busy machine takes to begin
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(training.signals, "pending", None)  # and so again for the tests behind this one
    monkeypatch.setattr(writer.MlflowRun, "log", logs)
    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted):
        launch.execute(config)
    (record,) = store.Store().search("toy")
    assert record.status == "KILLED" and f"reprod resume {record.id}" in record.failure
    assert len(list(record.path("checkpoints").glob("*.pt"))) == 1


def test_finished_or_living_runs_are_not_resumed(toy):
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    with pytest.raises(BadInput, match="is finished"):
        launch.resume(record.id)
    run = writer.open_run(resolve(Toy, {"rate": "1"}))
    time.sleep(1.5)
    with pytest.raises(BadInput, match=f"still running .process {os.getpid()}"):
        launch.resume(run.run_id)
    run.settle("KILLED")
    run.close(10)
    with pytest.raises(BadInput, match="has no run"):
        launch.resume("0" * 32)


def test_ten_random_kills_end_in_the_uninterrupted_numbers(toy):
    reference = resolve(Toy, {"niter": "60"})
    assert launch.execute(reference) == 0
    wanted = curves(store.Store().find(reference))
    connection.connect().delete_run(store.Store().find(reference).id)
    rng = random.Random(5)
    run = None
    for _ in range(10):
        run = _run_until(run, rng.randint(1, 6))
    connection.connect().set_tag(run, "reprod.config", _config_without_kill(run))
    assert launch.resume(run) == 0
    record = store.Store().get(run)
    assert record.status == "FINISHED"
    np.testing.assert_array_equal(record.array("path"), wanted[0])
    assert record.history("walk/position").equals(wanted[1])


def _config_without_kill(run: str) -> str:
    import json

    spelled = json.loads(store.Store().get(run).tags["reprod.config"])
    return json.dumps({**spelled, "kill_at": "none"})


def _run_until(run: str | None, further: int) -> str:
    """Start, or continue, in a forked process that kills itself `further` iterations behind its checkpoint."""
    import multiprocessing

    receiver, sender = multiprocessing.Pipe()

    def body() -> None:
        config = resolve(Toy, {"niter": "60", "checkpoint_every": "3"})
        opened = writer.open_run(config, resume=run)
        sender.send(opened.run_id)
        saved = opened.restore()
        from dataclasses import replace

        from tests.core.toy import walk

        at = min((saved[0] if saved else 0) + further, 60)
        object.__setattr__(opened, "config", replace(config, kill_at=at))
        walk(opened.config, opened)

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    return receiver.recv()
