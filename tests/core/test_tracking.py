"""The contract between writer and reader, on a real SQLite store."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from reprod import papers, store
from reprod.config import resolve
from reprod.errors import BadInput
from reprod.jobs import launch
from reprod.run import Run
from reprod.store import connection, outbox, writer
from tests.core.toy import Line, Toy, walk
from tests.workers import open_store, processes


def values(**given):
    return {name: str(value) for name, value in given.items()}


def test_a_run_leaves_what_the_contract_says(toy):
    assert launch.execute(resolve(Toy, values(rate=0.25, seeds=3))) == 0
    (record,) = store.Store().search("toy")
    assert record.status == "FINISHED"
    assert record.entity.data.params == record.config.spelled()
    assert record.config.rate == 0.25 and record.seed == 3
    assert record.name == "seed=3 rate=0.25 toy (paper)"
    for tag in (
        "paper",
        "experiment",
        "scale",
        "seed",
        "digest",
        "lock",
        "device",
        "host",
        "threads",
        "process",
        "cpu",
    ):
        assert record.tags[f"reprod.{tag}"], tag
    assert record.array("path").shape == (60,)
    assert record.array_meaning("path")["axes"] == ["iteration"]
    assert list(record.history("walk/position").index) == list(range(5, 61, 5))
    assert record.history("walk/position")[60] == pytest.approx(record.array("path")[-1])
    (data,) = record.entity.inputs.dataset_inputs
    assert data.dataset.name == "noise" and json.loads(data.dataset.profile)["sha256"] == "ab" * 32
    frame = store.runs("toy")
    assert frame.loc[0, "rate"] == 0.25 and frame.loc[0, "run_id"] == record.id
    assert not list((connection.cache_dir() / "runs").glob("*")), "work folders are cleared after a delivered run"


def test_seeds_are_one_parent_with_a_child_each_and_batched_equals_serial(toy):
    for batched in (True, False):
        assert launch.execute(resolve(Toy, values(seeds="0,1,2", batched=batched))) == 0
    frame = store.runs("toy")
    assert sorted(frame.seed) == [0, 0, 1, 1, 2, 2]
    ends = frame.groupby("seed")["walk/position"].nunique()
    assert (ends == 1).all(), "batched and serial training of the same seeds agree"
    for parent in (r for r in store.Store().search("toy") if r.seed is None):
        mine = [c.metrics["walk/position"] for c in store.Store().children(parent.id)]
        assert parent.metrics["walk/position"] == pytest.approx(np.mean(mine))
        assert parent.metrics["walk/position_std"] == pytest.approx(np.std(mine, ddof=1))


def test_a_diverging_seed_fails_alone_with_its_reason(toy):
    for batched in (True, False):
        assert launch.execute(resolve(Toy, values(seeds="0,1", batched=batched, diverge_seed=1))) == 1
    records = store.Store().search("toy")
    assert sorted((r.seed, r.status) for r in records if r.seed is not None) == [
        (0, "FINISHED"), (0, "FINISHED"), (1, "FAILED"), (1, "FAILED"),
    ]  # fmt: skip
    assert all("finite" in r.failure and r.tags["reprod.outcome"] == "diverged" for r in records if r.seed == 1)
    assert all(r.status == "FAILED" and "1 of 2 seeds failed (1)" in r.failure for r in records if r.seed is None)


def test_a_diverged_run_keeps_its_last_good_checkpoint(toy):
    config = resolve(Toy, values(diverge_seed=0, checkpoint_every=10))
    assert launch.guarded(lambda: launch.execute(config)) == 1
    (record,) = store.Store().search("toy")
    assert record.status == "FAILED" and "finite" in record.failure
    kept = sorted(p.name for p in record.path("checkpoints").glob("*.pt"))
    assert kept == ["iteration-000000020.pt", "iteration-000000030.pt"]


def test_an_experiment_needs_no_store():
    run = Run(resolve(Toy, values(seeds="0,1")))
    walk(run.config, run)
    assert [child.arrays["path"].values.shape for child in run.children()] == [(60,), (60,)]


def test_an_unexpected_error_ends_failed_with_its_traceback(toy, monkeypatch):
    def broken(config, run):
        raise ZeroDivisionError("no good")

    monkeypatch.setattr(papers, "function", lambda name: broken)
    with pytest.raises(ZeroDivisionError):
        launch.execute(resolve(Toy, {}))
    (record,) = store.Store().search("toy")
    assert record.status == "FAILED" and record.failure == "ZeroDivisionError: no good"
    assert "ZeroDivisionError" in record.path("provenance/traceback.txt").read_text()


def test_infinite_and_missing_metrics_do_not_break_reader(toy, monkeypatch):
    monkeypatch.setattr(papers, "function", lambda name: lambda c, run: run.log(1, {"a": np.inf, "b": np.nan}))
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    assert np.isnan(record.history("b")[1]) and record.history("a")[1] > 1e308


# -- parameters that MLflow logged first ----------------------------------------------------------------------------


def made_by_mlflow(client, entry_point="toy"):
    tags = {"mlflow.source.type": "PROJECT", "mlflow.project.entryPoint": entry_point}
    return client.create_run("0", tags=tags).info.run_id


def test_a_run_made_by_mlflow_keeps_what_was_typed_and_is_found_by_its_value(toy, monkeypatch):
    """`mlflow run -P rate=2e-1` has logged the text before we start; MLflow refuses to change it."""
    client = connection.connect()
    run_id = made_by_mlflow(client)
    client.log_param(run_id, "rate", "2e-1")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    assert launch.entry_point("toy")(["--rate", "2e-1"]) == 0
    record = store.Store().find(resolve(Toy, values(rate=0.2)))
    assert record is not None and record.id == run_id and record.config.rate == 0.2
    assert record.entity.data.params["rate"] == "2e-1" and record.entity.data.params["niter"] == "60"


def test_bad_input_under_mlflow_ends_the_run_failed_with_the_sentence(toy, monkeypatch, capsys):
    client = connection.connect()
    run_id = made_by_mlflow(client)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    assert launch.entry_point("toy")(["--rate", "-1"]) == 2
    run = client.get_run(run_id)
    assert run.info.status == "FAILED" and run.data.tags["reprod.failure"] == "rate=-1: must be greater than 0"
    assert "rate=-1: must be greater than 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--ratte 1", "--rate", "rate 1", "--rate 1 --rate=2", "--solver euler --step_size none", "--rate 99"]
)
def test_bad_input_alone_leaves_nothing(toy, words):
    assert launch.entry_point("toy")(words.split()) == 2
    assert store.Store().search("toy") == []


@pytest.mark.parametrize(
    "uri", ["sqlite:////nowhere/at/all/mlflow.db", "http://127.0.0.1:9", "mysql+nothing://x/y", "justaword"]
)
def test_an_unreachable_store_is_named(toy, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(BadInput, match=r"cannot reach the store|tracking URI"):
        launch.execute(resolve(Toy, {}))


# -- many processes -------------------------------------------------------------------------------------------------


def test_processes_that_open_a_new_store_at_once_all_succeed(tmp_path):
    context = processes()
    barrier, results = context.Barrier(6), context.Queue()
    uri = f"sqlite:///{tmp_path}/new.db"
    workers = [context.Process(target=open_store, args=(uri, barrier, results)) for _ in range(6)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert all(isinstance(run_id, str) for run_id in found), found
    assert len(set(found)) == 6


# -- the outbox -----------------------------------------------------------------------------------------------------


def test_a_locked_store_delays_the_metrics_but_not_the_run(toy, store_uri, monkeypatch):
    monkeypatch.setattr(outbox.Outbox, "INTERVAL", 0.05)
    run = writer.open_run(resolve(Toy, {}))
    time.sleep(0.5)
    other = sqlite3.connect(store_uri.removeprefix("sqlite:///"), timeout=1)
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    for step in range(2000):
        run.log(step, {"m": float(step)})
    assert time.monotonic() - began < 1.0, "the computation does not wait for the store"
    other.rollback()
    other.close()
    with writer.recording(run):
        pass
    record = store.Store().get(run.run_id)
    assert list(record.history("m").index) == list(range(2000))


def test_what_a_dead_store_missed_is_kept_and_synced(toy, monkeypatch, capsys):
    monkeypatch.setenv("REPROD_PATIENCE", "0.5")
    monkeypatch.setattr(outbox.Outbox, "INTERVAL", 0.05)
    run = writer.open_run(resolve(Toy, {}))
    time.sleep(0.5)
    real = outbox.deliver

    def down(client, message):
        raise ConnectionError("the server is away")

    monkeypatch.setattr(outbox, "deliver", down)
    with writer.recording(run):
        run.log(1, {"m": 1.0})
        run.array("a", np.arange(4), axes=("i",))
    said = capsys.readouterr().err
    assert "the store does not answer (the server is away)" in said and "`reprod sync` delivers them" in said
    assert store.Store().get(run.run_id).status == "RUNNING"
    monkeypatch.setattr(outbox, "deliver", real)
    delivered, waiting = outbox.sync(connection.connect())
    record = store.Store().get(run.run_id)
    assert waiting == 0 and delivered >= 4
    assert record.status == "FINISHED" and record.history("m")[1] == 1.0
    assert list(record.array("a")) == [0, 1, 2, 3]
    assert not list((connection.cache_dir() / "spool").glob("*"))


def test_a_message_under_way_when_patience_ends_is_kept_and_its_arrival_does_no_harm(toy, monkeypatch):
    monkeypatch.setenv("REPROD_PATIENCE", "0")
    monkeypatch.setattr(outbox.Outbox, "INTERVAL", 0.01)
    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    real = outbox.deliver
    under_way = threading.Event()

    def slow(client, message):
        under_way.set()
        time.sleep(0.3)
        real(client, message)

    monkeypatch.setattr(outbox, "deliver", slow)
    run = writer.open_run(resolve(Toy, {}))
    with writer.recording(run):
        run.log(1, {"m": 1.0})
        assert under_way.wait(5)
    run.outbox.join(5)
    monkeypatch.setattr(outbox, "deliver", real)
    assert not run.outbox.is_alive() and not died
    assert outbox.sync(connection.connect())[1] == 0
    assert store.Store().get(run.run_id).status == "FINISHED"
    assert list(store.Store().get(run.run_id).history("m")) == [1.0]


def test_checkpoints_that_are_superseded_before_they_are_sent_leave_no_trace(toy, monkeypatch):
    run = writer.open_run(resolve(Toy, {}))
    for iteration in range(1, 41):
        run.save(iteration, {"x": iteration})
    run.settle("KILLED")
    assert run.close(60)
    assert not list((connection.cache_dir() / "spool").glob("*"))
    kept = sorted(path.name for path in store.Store().get(run.run_id).path("checkpoints").iterdir())
    assert kept == [f"iteration-{i:09d}.{ending}" for i in (39, 40) for ending in ("json", "pt")]


# -- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exportable", [True, False])
def test_models_in_both_forms(toy, monkeypatch, exportable):
    import mlflow

    from reprod import models

    monkeypatch.setattr(Line, "exportable", exportable)
    monkeypatch.setattr(models, "_requirements", lambda: [f"torch=={torch.__version__.partition('+')[0]}"])
    model, example = Line(3), torch.randn(4, 3)
    record_model = lambda c, run: run.model(model, arguments={"width": 3}, example=example)  # noqa: E731
    monkeypatch.setattr(papers, "function", lambda name: record_model)
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    wanted = model(example).detach().numpy()
    (logged,) = mlflow.MlflowClient().search_logged_models(record.entity.info.experiment_id and ["1"])
    assert logged.tags["reprod.format"].startswith("pt2" if exportable else "pickle")
    loaded = mlflow.pytorch.load_model(f"runs:/{record.id}/model")
    np.testing.assert_allclose(loaded(example).detach().numpy(), wanted, atol=1e-6)
    served = mlflow.pyfunc.load_model(f"runs:/{record.id}/model")
    np.testing.assert_allclose(served.predict(example.numpy()), wanted, atol=1e-6)
    # ours: the class must be one of reprod or of an installed paper, whatever spec.json says
    spec = record.path("model/weights/spec.json")
    written = spec.read_text()
    spec.write_text(written.replace("tests.core.toy", "elsewhere.toy"))
    with pytest.raises(BadInput, match="only classes of reprod"):
        record.model()
    spec.write_text(written)
    np.testing.assert_array_equal(record.model()(example).detach().numpy(), wanted)
    weights = record.path("model/weights/state.pt")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BadInput, match="damaged"):
        record.model()


def test_a_moved_store_still_gives_arrays(toy, tmp_path, tmp_path_factory):
    assert launch.execute(resolve(Toy, {})) == 0
    elsewhere = tmp_path_factory.mktemp("moved")
    (tmp_path / "mlflow.db").rename(elsewhere / "mlflow.db")
    (tmp_path / "mlruns").rename(elsewhere / "mlruns")
    (record,) = store.Store(f"sqlite:///{elsewhere}/mlflow.db").search("toy")
    assert record.array("path").shape == (60,)
    assert isinstance(record.path("arrays"), Path)
