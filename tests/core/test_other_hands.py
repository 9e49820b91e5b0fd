"""Twenty further ways in which an environment, a file or a person differs from what we expected."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from reprod import project, store
from reprod.config import resolve
from reprod.errors import BadInput, Interrupted
from reprod.figures import figure
from reprod.jobs import housekeeping, launch, plan, pool
from reprod.store import connection, liveness, outbox, writer
from tests.core.test_drawing import registered
from tests.core.test_living import left_behind
from tests.core.test_stores import reprod
from tests.core.toy import Toy


def test_01_empty_variables_are_unset_ones(toy, monkeypatch):
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "REPROD_PATIENCE"):
        monkeypatch.setenv(name, "")
    assert launch.entry_point("toy")([]) == 0


def test_02_a_variable_that_is_no_number_is_a_sentence_before_the_run(toy, monkeypatch, capsys):
    for value in ("soon", "-1", "inf", "nan"):
        monkeypatch.setenv("REPROD_PATIENCE", value)
        assert reprod("run", "toy") == 2
        assert f"REPROD_PATIENCE={value}: expected a number of seconds" in capsys.readouterr().err
    assert store.Store().search("toy") == []


@pytest.mark.parametrize(("text", "threads"), [("4", 4), ("4,2", 4), (" 3 ", 3), ("", 0), ("auto", 0), ("-1", 0)])
def test_03_openmp_takes_lists(monkeypatch, text, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert pool._threads_asked_for() == threads


@pytest.mark.parametrize("name", ["reprod.process", liveness.SEEN])
@pytest.mark.parametrize("text", ["", "x", "12:y", "999999999999999999"])
def test_04_tags_that_somebody_edited_break_no_status(toy, capsys, name, text):
    run_id = left_behind(**{name: text or " "})
    assert reprod("status") == 0
    assert run_id in capsys.readouterr().out


def test_05_a_process_that_may_not_be_looked_at_is_alive(toy, monkeypatch):
    import psutil

    run = writer.open_run(resolve(Toy, {}))

    def hidden(pid):
        raise psutil.AccessDenied(pid)

    record = store.Store().get(run.run_id)
    monkeypatch.setattr(psutil, "Process", hidden)
    assert housekeeping.state(record)[0] == "live"
    monkeypatch.undo()
    run.settle("KILLED")
    run.close(10)


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as a header of one" * 20, b"SQLite"])
def test_06_a_file_that_is_no_store_is_a_sentence_and_stays_as_it_is(tmp_path: Path, content):
    (tmp_path / "mlflow.db").write_bytes(content)
    connection._may_open.cache_clear()
    with pytest.raises(BadInput, match=r"cannot reach the store .*not a database"):
        connection.connect(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == content


def test_07_other_spellings_of_sqlite(tmp_path: Path):
    assert connection.absolute_uri(f"sqlite+pysqlite:///{tmp_path}/m.db") == f"sqlite:///{tmp_path}/m.db"
    with pytest.raises(BadInput, match="nothing would be kept"):
        connection.absolute_uri("sqlite+pysqlite://")


def test_08_an_mlproject_of_others_in_any_encoding_is_none_of_ours(tmp_path: Path):
    (tmp_path / "MLproject").write_bytes("name: prüfung\n".encode("latin-1"))
    assert project._is_ours(tmp_path) is False


def test_09_a_signal_while_the_run_is_made_leaves_no_run_running(toy, monkeypatch):
    real = writer.open_run

    def interrupted(*words, **named):
        run = real(*words, **named)
        os.kill(os.getpid(), signal.SIGTERM)
        return run

    monkeypatch.setattr(writer, "open_run", interrupted)
    with pytest.raises(Interrupted):
        launch.execute(resolve(Toy, {}))
    (record,) = store.Store().search("toy")
    assert record.status == "KILLED" and "reprod resume" in record.failure


def test_10_a_sweep_is_not_resumed_but_started_again(toy):
    with writer.sweep("toy", "sweep toy", "one", "note") as parent:
        pass
    for ask in (lambda: launch.resume(parent), lambda: housekeeping.verify(store.Store(), parent)):
        with pytest.raises(BadInput, match=r"is a sweep: started again|was not made by reprod"):
            ask()


@pytest.mark.parametrize("words", ["resume nothing", "verify nothing", "diff nothing nothing", "load nothing",
                                   "config nothing", "status --dead nothing"])  # fmt: skip
def test_11_an_unknown_run_is_a_sentence_everywhere(toy, capsys, words):
    assert reprod(*words.split()) == 2
    assert "has no run nothing" in capsys.readouterr().err


def test_12_a_damaged_description_of_a_model_is_a_sentence(toy, tmp_path):
    from reprod.models import load_weights, save_weights

    save_weights(toy.Line(2), {"width": 2}, tmp_path)
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(BadInput, match=r"spec\.json is damaged"):
        load_weights(tmp_path)


def test_13_lines_of_the_spool_without_what_they_need_are_passed_over(toy, capsys):
    spool = project.cache_dir() / "spool"
    spool.mkdir(parents=True)
    (spool / "x.jsonl").write_text('{"kind": "tags"}\n[1]\nnull\n')
    assert outbox.undelivered(connection.tracking_uri()) == {}
    assert outbox.sync(connection.connect()) == (0, 0)
    assert "damaged line" in capsys.readouterr().err


def test_14_a_figure_is_written_in_utf_8_whatever_the_locale(toy, tmp_path, monkeypatch):
    import builtins

    assert launch.execute(resolve(Toy, {})) == 0
    real = builtins.open

    def latin(file, mode="r", *rest, encoding=None, **named):
        return real(file, mode, *rest, encoding=encoding or (None if "b" in mode else "ascii"), **named)

    one = registered("one", 0.1)
    object.__setattr__(one, "source", "Müller et al., σ → 0")
    monkeypatch.setattr(builtins, "open", latin)
    drawn, complaints = figure.draw_all([one], "paper", store.Store(), tmp_path / "out", log=False)
    monkeypatch.undo()
    assert (drawn, complaints) == (1, [])
    assert "σ → 0" in (tmp_path / "out" / "toys.one-paper.csv").read_text(encoding="utf-8")


def test_15_the_artifacts_of_a_whole_store_are_gone(toy, tmp_path, capsys):
    assert launch.execute(resolve(Toy, {"rate": "0.1"})) == 0
    shutil.rmtree(tmp_path / "mlruns")
    drawn, complaints = figure.draw_all([registered("one", 0.1)], "paper", store.Store(), tmp_path / "out", log=False)
    assert drawn == 0 and "arrays/path.npy is missing" in complaints[0] and "reprod run toy" in complaints[0]
    assert reprod("export", "--out", str(tmp_path / "copy")) == 1
    assert "1 of them not whole" in capsys.readouterr().out
    (record,) = store.Store().search("toy")
    assert reprod("verify", record.id) == 1
    assert "is missing" in capsys.readouterr().out


def test_16_an_export_beside_foreign_files_or_into_a_file_is_refused(toy, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.tex"):
        assert reprod("export", "--out", str(out)) == 2
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


def test_17_the_hint_of_an_export_can_be_pasted(toy, tmp_path, capsys):
    assert launch.execute(resolve(Toy, {})) == 0
    capsys.readouterr()
    out = tmp_path / "my results (1)"
    assert reprod("export", "--out", str(out)) == 0
    said = capsys.readouterr().out
    command = said.partition("`")[2].partition(" && mlflow")[0]
    done = subprocess.run(["bash", "-c", f"{command} && pwd"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(out)


def test_18_a_run_whose_experiment_is_not_installed_is_passed_over(toy, capsys):
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    record.store.client.set_tag(record.id, "reprod.experiment", "of_a_plug_in_that_is_gone")
    assert list(store.Store().readable(store.Store().search())) == []
    assert record.id in capsys.readouterr().err
    for words in (["status"], ["diff", record.id, record.id], ["export", "--out", "copy"]):
        assert reprod(*words) == 0, words


def test_19_two_machines_with_one_name_do_not_settle_each_others_runs_by_process(toy, monkeypatch):
    """A process of the same number that began at another time is not the run's."""
    run = writer.open_run(resolve(Toy, {}))
    record = store.Store().get(run.run_id)
    assert housekeeping.state(record)[0] == "live"
    record.store.client.set_tag(run.run_id, "reprod.process", f"{os.getpid()}:1.0")
    assert housekeeping.state(store.Store().get(run.run_id))[0] == "dead"
    run.settle("KILLED")
    run.close(10)


def test_20_a_plan_leaves_alone_what_waits_to_be_delivered(toy, monkeypatch):
    run = writer.open_run(resolve(Toy, {"rate": "0.3"}))
    run.outbox.close(10)
    client = connection.connect()
    client.set_tag(run.run_id, "reprod.process", "999999999:1.0")
    assert [job.resume for job in plan.make([Toy(rate=0.3)], store.Store()).jobs] == [run.run_id]
    spool = project.cache_dir() / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    message = {"kind": "status", "run": run.run_id, "status": "FINISHED", "end": 1, "uri": connection.tracking_uri()}
    (spool / f"{run.run_id}.jsonl").write_text(json.dumps(message) + "\n")
    made = plan.make([Toy(rate=0.3)], store.Store())
    assert made.jobs == [] and [record.id for record in made.running] == [run.run_id]
    assert outbox.sync(client) == (1, 0)
    assert [record.id for record in plan.make([Toy(rate=0.3)], store.Store()).done] == [run.run_id]
