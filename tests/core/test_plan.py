"""What is left to run, and what a store says about its runs."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from reprod import papers, store
from reprod.config import resolve
from reprod.errors import BadInput
from reprod.jobs import housekeeping, launch, plan, pool, times
from reprod.store import export, writer
from reprod.store.checkpoints import sha256
from tests.core.toy import Toy


def run(**values):
    return launch.guarded(lambda: launch.execute(resolve(Toy, {k: str(v) for k, v in values.items()})))


def config(**values):
    return resolve(Toy, {k: str(v) for k, v in values.items()})


# -- the plan -------------------------------------------------------------------------------------------------------


def test_a_grid_is_all_combinations_and_lists_stay_whole(toy):
    made = plan.grid("toy", {"rate": "0.1,0.2", "niter": "5,6", "seeds": "0-2", "factors": "1,2"})
    assert [(c.rate, c.niter) for c in made] == [(0.1, 5), (0.1, 6), (0.2, 5), (0.2, 6)]
    assert all(c.seeds == (0, 1, 2) and c.factors == (1, 2) for c in made)
    assert [c.factors for c in plan.grid("toy", {"factors": "1,2|3"})] == [(1, 2), (3,)]
    with pytest.raises(BadInput, match="did you mean rate"):
        plan.grid("toy", {"ratte": "1,2"})
    with pytest.raises(BadInput, match="rate=99"):
        plan.grid("toy", {"rate": "1,99"})


def test_configurations_that_differ_in_seeds_alone_are_joined():
    (joined,) = plan.unique([config(seeds="0,1"), config(seeds="1,2"), config(scale="paper")])
    assert joined.seeds == (0, 1, 2)


def test_only_missing_seeds_are_run_whatever_wrote_the_others(toy):
    run(seeds="0", rate="0.3")
    run(seeds="1,2", rate="0.3")
    made = plan.make([config(seeds="0-4", rate=0.3), config(seeds="0", rate=0.4)], store.Store())
    assert [(job.config.rate, job.config.seeds, job.resume) for job in made.jobs] == [
        (0.3, (3, 4), None),
        (0.4, (0,), None),
    ]
    assert sorted(record.seed for record in made.done) == [0, 1, 2]
    again = plan.make([config(seeds="0,1", rate=0.3)], store.Store(), again=True)
    assert again.jobs[0].config.seeds == (0, 1)


def test_interrupted_runs_are_continued_and_diverged_ones_are_not_repeated(toy):
    opened = writer.open_run(config(seeds="0-2"))
    opened.children()
    opened.settle("KILLED")
    opened.close()
    run(seeds="5", diverge_seed=5)
    made = plan.make([config(seeds="1,2")], store.Store())
    assert [(job.resume, job.config.seeds) for job in made.jobs] == [(opened.run_id, (0, 1, 2))]
    made = plan.make([config(seeds="5", diverge_seed=5)], store.Store())
    assert made.jobs == []
    assert [record.seed for record in made.failed] == [5]


def test_a_living_run_is_left_alone(toy):
    opened = writer.open_run(config(seeds="3"))
    time.sleep(1.5)
    made = plan.make([config(seeds="3")], store.Store())
    assert made.jobs == []
    assert [record.id for record in made.running] == [opened.run_id]
    opened.settle("KILLED")
    opened.close()


def test_the_estimate_comes_from_finished_runs(toy):
    job = config(seeds="0-3", rate=0.7)
    assert times.Times(store.Store()).estimate(job) is None
    run(seeds="0,1")
    (whole,) = [r for r in store.Store().search("toy") if r.seed is None]
    assert times.Times(store.Store()).estimate(job) == pytest.approx(2 * whole.seconds)


def test_the_estimate_follows_the_nearest_run(toy):
    for rate in (0.1, 0.6, 5.0):
        run(rate=rate, seeds="0")
    run(rate=0.7, shuffle=False, seeds="0")
    runs = {(r.config.rate, r.config.shuffle): r for r in store.Store().search("toy")}
    job = config(rate=0.7, seeds="0,1")
    # both differ in one parameter; a switch has no distance, so the run without shuffling is the nearest
    assert times.Times(store.Store()).estimate(job) == pytest.approx(2 * runs[0.7, False].seconds)
    job = config(rate=0.8, seeds="0")
    assert times.Times(store.Store()).estimate(job) == pytest.approx(runs[0.6, True].seconds)


def test_slurm_options_are_checked(tmp_path):
    file = tmp_path / "slurm.json"
    file.write_text(json.dumps({"mem_gb": 2, "partition": "gpu", "extra": {"account": "me"}}))
    options = pool.read_options("slurm", 3, file, {"gpus": "1"})
    assert (options.mem_gb, options.partition, options.gpus, options.workers) == (2, "gpu", 1, 3)
    for bad in ({"gpu": "1"}, {"cpus": "many"}, {"time_minutes": "-1"}):
        with pytest.raises(BadInput):
            pool.read_options("slurm", 1, None, bad)
    with pytest.raises(BadInput, match="expected local or slurm"):
        pool.check(pool.read_options("cloud", 1, None, {}))


# -- housekeeping ---------------------------------------------------------------------------------------------------


def test_status_tells_the_dead_from_the_living_and_repairs_only_those(toy):
    run(seeds="0")
    code = (
        "import os, signal, time; from reprod.store import outbox, writer; from tests.core.toy import Toy;"
        "outbox.Outbox.INTERVAL = 0.05; writer.open_run(Toy(rate=0.9)); time.sleep(1);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, check=False)
    living = writer.open_run(config(rate=0.8))
    time.sleep(1.5)
    states = {r.config.rate: housekeeping.state(r)[0] for r in store.Store().search("toy")}
    assert states == {0.1: "finished", 0.9: "dead", 0.8: "live"}
    for record in store.Store().search("toy"):
        if housekeeping.state(record)[0] == "dead":
            housekeeping.settle_dead(store.Store(), record)
    states = {r.config.rate: r.status for r in store.Store().search("toy")}
    assert states == {0.1: "FINISHED", 0.9: "KILLED", 0.8: "RUNNING"}
    living.settle("KILLED")
    living.close()


def test_diff_names_parameters_environment_and_metrics(toy):
    run(seeds="0")
    run(seeds="1")
    a, b = store.Store().search("toy")
    found = {(what, name) for what, name, _, _ in housekeeping.differences(a, b)}
    assert ("parameter", "seeds") in found
    assert ("metric", "walk/position") in found
    assert not [1 for what, _ in found if what == "environment"]


@pytest.mark.parametrize("seeds", ["2", "0,1"])
def test_verify_re_executes_to_the_last_bit(toy, seeds):
    run(seeds=seeds)
    for record in store.Store().search("toy"):
        deviations, environment = housekeeping.verify(store.Store(), record.id)
        assert deviations
        assert all(d.equal for d in deviations)
        assert environment == []


def test_verify_finds_a_difference(toy):
    run(seeds="0")
    (record,) = store.Store().search("toy")
    path = record.path("arrays/path.npy")
    np.save(path, np.load(path) + 1e-6)
    described = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**described, "sha256": sha256(path)}))
    record.store.client.log_metric(record.id, "walk/position", 99.0, step=60)
    record.store.client.set_tag(record.id, "reprod.threads", "64")
    deviations, environment = housekeeping.verify(store.Store(), record.id)
    largest = {d.name: d.largest for d in deviations}
    assert largest["array path"] == pytest.approx(1e-6, rel=1e-3)
    assert largest["walk/position"] > 50
    assert [(name, then) for _, name, then, _ in environment] == [("threads", "64")]


@pytest.mark.parametrize(("then", "now", "gap"), [
    ([1.0, np.nan], [1.0, np.nan], 0.0),
    ([1.0, np.nan], [1.0, 2.0], np.inf),
    ([1.0, 2.0], [np.nan, 2.0], np.inf),
    ([np.inf, 1.0], [np.inf, 1.5], 0.5),
    ([np.inf], [-np.inf], np.inf),
    ([2**53 + 1], [2**53], 1.0),
    ([2**63 - 1], [-(2**63)], float(2**64 - 1)),
    ([True, False], [True, True], 1.0),
    (["a"], ["b"], np.inf),
])  # fmt: skip
def test_no_difference_between_arrays_is_overlooked(then, now, gap):
    assert housekeeping._array_gap(np.array(then), np.array(now)) == gap
    if gap and isinstance(then[-1], float):
        gaps = [housekeeping._gap(a, b) for a, b in zip(then, now, strict=True)]
        assert max(gaps) == gap, "the same for metrics"


def test_verify_names_what_is_missing_or_damaged_and_goes_on(toy, monkeypatch):
    import pandas as pd

    def with_table(configuration, run):
        toy.walk(configuration, run)
        run.log(1, {"nan": float("nan")})
        run.table("t", pd.DataFrame({"a": [0.1, 0.2]}))

    monkeypatch.setattr(papers, "function", lambda name: with_table)
    run(seeds="0")
    (record,) = store.Store().search("toy")
    assert all(d.equal for d in housekeeping.verify(store.Store(), record.id)[0])
    record.path("arrays/path.npy").write_bytes(b"")
    record.store.client.log_metric(record.id, "more", 1.0)
    table = record.path("tables/t.csv")
    table.write_text(table.read_text().replace("0.2", "0.3"))
    found = {d.name: d for d in housekeeping.verify(store.Store(), record.id)[0]}
    assert {name for name, d in found.items() if not d.equal} == {"array path", "table t", "more"}
    assert record.id in found["array path"].about and "another sha256" in found["table t"].about


def test_seeds_whose_parent_is_gone_are_verified_resumed_and_exported(toy, tmp_path, capsys):
    run(seeds="0,1")
    (parent,) = [r for r in store.Store().search("toy") if r.seed is None]
    with sqlite3.connect(parent.store.uri.removeprefix("sqlite:///")) as database:  # as `mlflow gc` does
        for table in ("params", "tags", "metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (parent.id,))
        database.execute("DELETE FROM runs WHERE run_uuid = ?", (parent.id,))
    child = next(r for r in store.Store().search("toy") if r.seed == 1)
    assert all(d.equal for d in housekeeping.verify(store.Store(), child.id)[0])
    assert f"the run {parent.id} of all seeds is gone: seed 1 is executed alone" in capsys.readouterr().err
    assert export.export(store.Store(), store.Store().search("toy"), tmp_path / "out") == (2, 0)
    assert f"the run {parent.id} that it belongs to is gone" in capsys.readouterr().err
    writer.settle(child.store.client, child.id, "KILLED", "stopped")
    assert launch.resume(child.id) == 0
    assert store.Store().get(child.id).status == "FINISHED"


def test_an_export_opens_after_being_moved(toy, tmp_path, tmp_path_factory, monkeypatch):
    from tests.core.toy import Line, walk

    def with_model(configuration, run):
        walk(configuration, run)
        for child in run.children():
            child.model(Line(2), arguments={"width": 2}, example=__import__("torch").zeros(3, 2))

    monkeypatch.setattr(papers, "function", lambda name: with_model)
    monkeypatch.setattr(Line, "exportable", False)
    run(seeds="0,1")
    source = store.Store()
    originals = {r.id: r for r in source.search("toy")}
    assert export.export(source, list(originals.values()), tmp_path / "out") == (3, 0)
    assert os.environ["MLFLOW_TRACKING_URI"] == source.uri
    moved = tmp_path_factory.mktemp("another") / "machine"
    (tmp_path / "out").rename(moved)
    (tmp_path / "mlruns").rename(tmp_path / "gone")
    copy = store.Store(f"sqlite:///{moved}/mlflow.db")
    copies = {r.id: r for r in copy.search("toy")}
    assert copies.keys() == originals.keys()
    for run_id, record in copies.items():
        assert record.metrics == originals[run_id].metrics
        assert record.tags == originals[run_id].tags
        if record.seed is not None:
            assert record.history("walk/position").equals(originals[run_id].history("walk/position"))
            assert record.array("path").shape == (60,)
            assert record.path("model/weights/spec.json").exists()
    monkeypatch.chdir(moved)
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{moved}/mlflow.db")
    child = next(r for r in copies.values() if r.seed == 0)
    assert mlflow.pyfunc.load_model(f"runs:/{child.id}/model").predict(np.zeros((3, 2), np.float32)).shape == (3, 1)
    mlflow.set_tracking_uri(None)


def test_exports_of_several_stores_into_one_folder_make_one_store(toy, tmp_path, empty_store, monkeypatch):
    from reprod.errors import BadInput

    out = tmp_path / "together"
    run(seeds="0,1")
    first = store.Store()
    assert export.export(first, first.search("toy"), out) == (3, 0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mlflow.db").write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other/mlflow.db")
    run(rate="0.5")
    unfinished = writer.open_run(resolve(toy.Toy, {"rate": "0.7"}))
    unfinished.log(1, {"walk/position": 1.0})
    second = store.Store()
    assert export.export(second, second.search("toy"), out) == (2, 0)
    unfinished.log(2, {"walk/position": 2.0})
    unfinished.finish()
    unfinished.close()
    assert export.export(second, second.search("toy"), out) == (1, 1), "what has ended since is copied again"
    assert export.export(first, first.search("toy"), out) == (0, 3)
    both = store.Store(f"sqlite:///{out}/mlflow.db")
    merged = {r.id: r for r in both.search("toy")}
    assert merged.keys() == {r.id for source in (first, second) for r in source.search("toy")}
    assert {r.status for r in merged.values()} == {"FINISHED"}
    assert list(merged[unfinished.run_id].history("walk/position")) == [1.0, 2.0]
    for record in merged.values():
        assert record.entity.info.artifact_uri == f"mlruns/toy/{record.id}/artifacts"
        if record.seed is not None and record.id != unfinished.run_id:
            assert record.array("path").shape == (60,)
    with pytest.raises(BadInput, match="the store itself"):
        export.export(both, both.search(), out)
    with pytest.raises(BadInput, match="no earlier export"):
        export.export(first, [], tmp_path / "other" / "mlruns")
