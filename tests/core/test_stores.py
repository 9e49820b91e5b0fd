"""Which store is meant, and whose runs are in it: nothing finished is overwritten, nothing kept is lost in silence."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from reprod import cli, store
from reprod.config import resolve
from reprod.errors import BadInput, masked
from reprod.jobs import launch
from reprod.store import connection, outbox, writer
from tests.core.toy import Toy


def made_by_mlflow(client, entry_point="toy", **tags):
    tags = {"mlflow.source.type": "PROJECT", "mlflow.project.entryPoint": entry_point, **tags}
    return client.create_run("0", tags=tags).info.run_id


def reprod(*words: str) -> int:
    """The command line, in this process; its exit status."""
    return launch.guarded(lambda: cli.app(list(words), standalone_mode=False) or 0)


# -- a run that is somebody's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["finished", "claimed", "of another entry point", "not of a project", "nowhere"])
def test_a_run_that_mlflow_did_not_make_for_us_is_refused_and_stays_as_it_is(toy, monkeypatch, capsys, kind):
    client = connection.connect()
    run_id = {
        "finished": lambda: made_by_mlflow(client),
        "claimed": lambda: made_by_mlflow(client, **{"reprod.config": "{}"}),
        "of another entry point": lambda: made_by_mlflow(client, "sphere_ode"),
        "not of a project": lambda: client.create_run("0").info.run_id,
        "nowhere": lambda: "0" * 32,
    }[kind]()
    if kind == "finished":
        client.set_terminated(run_id, "FINISHED")
    before = None if kind == "nowhere" else client.get_run(run_id).to_dictionary()
    for start in (launch.entry_point("toy"), lambda words: reprod("run", "toy")):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        assert start([]) == 2
        assert f"MLFLOW_RUN_ID={run_id}" in capsys.readouterr().err
    assert kind == "nowhere" or client.get_run(run_id).to_dictionary() == before
    assert len(client.search_runs(["0"])) == (kind != "nowhere"), "no other run is made instead"


def test_a_command_that_reads_writes_nothing(toy, monkeypatch):
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    before = record.entity.to_dictionary()
    for words in (["claims", "--figure", "fgi3"], ["figures", "--figure", "fgi3"], ["status"], ["diff", "x", "y"]):
        monkeypatch.setenv("MLFLOW_RUN_ID", record.id)
        reprod(*words)
    assert store.Store().get(record.id).entity.to_dictionary() == before


def test_a_finished_run_is_not_continued_by_any_door(toy):
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    with pytest.raises(BadInput, match="finished"):
        launch.execute(record.config, resume=record.id)
    assert store.Store().get(record.id).status == "FINISHED"


def test_the_mlflow_experiment_that_the_environment_names_takes_the_runs(toy, monkeypatch):
    client = connection.connect()
    mine = client.create_experiment("mine")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mine)
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    assert record.entity.info.experiment_id == mine
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    with pytest.raises(BadInput, match=f"MLFLOW_EXPERIMENT_ID={mine} is the MLflow experiment mine"):
        launch.execute(resolve(Toy, {"rate": "0.2"}))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with pytest.raises(BadInput, match="MLFLOW_EXPERIMENT_ID=77: the store has no such"):
        launch.execute(resolve(Toy, {"rate": "0.2"}))


def test_a_deleted_experiment_is_named_with_its_id_and_both_ways_out(toy):
    client = connection.connect()
    number = connection.experiment_id(client, "toy")
    client.delete_experiment(number)
    with pytest.raises(BadInput) as error:
        launch.execute(resolve(Toy, {}))
    assert f"restore --experiment-id {number}" in str(error.value) and "MLFLOW_EXPERIMENT_NAME" in str(error.value)


# -- which file is meant --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:////tmp", "sqlite:memory"])
def test_a_store_that_keeps_nothing_is_refused(uri):
    with pytest.raises(BadInput, match="nothing would be kept"):
        connection.absolute_uri(uri)


@pytest.mark.parametrize("folder", ["plain", "a dir", "acc%20run", "what?", "h#x", "per%", "ü"])
def test_a_store_lies_where_its_folder_is_named_and_nowhere_else(tmp_path: Path, monkeypatch, empty_store, folder):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "mlflow.db").write_bytes(empty_store)
    monkeypatch.chdir(tmp_path)
    uris = {connection.absolute_uri(f"sqlite:///{tmp_path}/{folder}/mlflow.db"),
            connection.absolute_uri(f"sqlite:///{folder}/mlflow.db")}  # fmt: skip
    monkeypatch.chdir(tmp_path / folder)
    uris.add(connection.absolute_uri("sqlite:///mlflow.db"))
    (uri,) = uris
    assert connection.database(uri) == tmp_path / folder / "mlflow.db"
    assert connection.absolute_uri(uri) == uri, "said twice, it is the same"
    client = connection.connect(uri)
    run = client.create_run(connection.experiment_id(client, "x"))
    (tmp_path / folder / "note.txt").write_text("kept")
    client.log_artifact(run.info.run_id, str(tmp_path / folder / "note.txt"), "sub")
    client.set_tag(run.info.run_id, "reprod.config", "{}")
    record = store.Store(uri).get(run.info.run_id)
    assert record.path("sub/note.txt").read_text() == "kept"
    assert record.path("sub").is_relative_to(tmp_path / folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder], "no stray folder beside it"


def test_what_mlflow_quotes_is_read_as_the_folder_that_is_there(tmp_path: Path, monkeypatch):
    (tmp_path / "a dir").mkdir()
    assert connection.absolute_uri(f"sqlite:///{tmp_path}/a%20dir/m.db") == f"sqlite:///{tmp_path}/a dir/m.db"
    monkeypatch.chdir(tmp_path)
    assert connection.absolute_uri("sqlite:///m.db?timeout=5") == f"sqlite:///{tmp_path}/m.db?timeout=5"


# -- an older MLflow ------------------------------------------------------------------------------------------------


def older(store_uri: str) -> Path:
    """Make the store look like one of an older MLflow: an earlier revision, and a table that is not there yet."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    earlier = list(ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions())[3].revision
    path = connection.database(store_uri)
    assert path is not None
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (earlier,))
    connection._may_open.cache_clear()
    return path


def test_a_store_of_an_older_mlflow_is_not_changed_unasked(store_uri, monkeypatch):
    path = older(store_uri)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"made by an older MLflow .* add --upgrade"):
        store.Store()
    assert path.read_bytes() == before
    asked: list[str] = []
    monkeypatch.setattr(connection, "say", asked.append)
    monkeypatch.setenv("REPROD_UPGRADE", "1")
    connection._may_open(store_uri)
    assert "an older MLflow cannot open them" in asked[0]


def test_a_store_of_ours_is_upgraded_and_one_of_a_newer_mlflow_is_named(store_uri, monkeypatch):
    path = older(store_uri)
    with sqlite3.connect(path) as database:
        run = "INSERT INTO runs (run_uuid, experiment_id) VALUES ('r', 0)"
        database.execute(run)
        database.execute("INSERT INTO tags (key, value, run_uuid) VALUES ('reprod.config', '{}', 'r')")
    connection._may_open(store_uri)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    connection._may_open.cache_clear()
    with pytest.raises(BadInput, match="made by a newer MLflow"):
        store.Store()


# -- secrets --------------------------------------------------------------------------------------------------------

SECRET = "postgresql://me:s3cr3t@db.example.org/mlflow"


@pytest.mark.parametrize("text", [
    SECRET, "http://me:s3cr3t@host:5000/x", "mysql://me:p@ss/s3cr3t@host/db", "http://host/x?token=s3cr3t&y=1",
    f"(OperationalError) could not connect to {SECRET}: refused",
])  # fmt: skip
def test_one_function_masks(text):
    assert "s3cr3t" not in masked(text) and "***" in masked(text)
    assert masked("http://host:5000/#/experiments/1 a@b") == "http://host:5000/#/experiments/1 a@b"


def test_a_password_is_neither_said_nor_kept(toy, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("REPROD_PATIENCE", "0.3")
    monkeypatch.setattr(outbox.Outbox, "INTERVAL", 0.05)
    monkeypatch.setattr(writer, "tracking_uri", lambda: SECRET)
    run = writer.open_run(resolve(Toy, {}))
    real = outbox.deliver

    def down(client, message):
        raise ConnectionError(f"no answer from {SECRET}")

    monkeypatch.setattr(outbox, "deliver", down)
    with writer.recording(run):
        run.log(1, {"m": 1.0})
    kept = run.outbox.spool.read_text()
    said = capsys.readouterr()
    assert "s3cr3t" not in kept + said.err + said.out and "no answer" in said.err
    # the one who delivers it has the password in the environment
    client = connection.connect()
    monkeypatch.setattr(outbox, "deliver", real)
    assert outbox.sync(client)[0] == 0, "messages for another store stay"
    monkeypatch.setattr(outbox, "masked", lambda uri: "here")
    assert outbox.sync(client)[1] == 0
    assert store.Store().get(run.run_id).metrics["m"] == 1.0


def test_errors_and_hints_mask(monkeypatch, capsys):
    def refuse():
        raise BadInput(f"cannot reach {SECRET}")

    assert launch.guarded(refuse) == 2
    connection.say(f"at {SECRET}")
    print(launch.see(SECRET, "#/"), connection.first_line(OSError(SECRET)))
    said = capsys.readouterr()
    assert "s3cr3t" not in said.err + said.out and said.err.count("***") == 2


# -- hints ----------------------------------------------------------------------------------------------------------


def test_the_hint_opens_the_store_that_was_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.see(f"sqlite:///{tmp_path}/mlflow.db", "#/x") == "mlflow ui, then http://127.0.0.1:5000/#/x"
    for name in ("other.db", "a dir/mlflow.db"):
        uri = f"sqlite:///{tmp_path}/{name}"
        assert f"--backend-store-uri {uri}" in launch.see(uri, "#/x").replace("'", "")
    assert launch.see("http://host:5000", "#/x") == "http://host:5000/#/x"
    assert "--backend-store-uri" in launch.see("postgresql://host/db", "#/x")


# -- messages that wait ---------------------------------------------------------------------------------------------


@pytest.fixture
def spooled(toy, monkeypatch):
    """A run whose last messages are kept on disk, of a process that is gone."""
    monkeypatch.setenv("REPROD_PATIENCE", "0.1")
    monkeypatch.setattr(outbox.Outbox, "INTERVAL", 0.05)
    real = outbox.deliver
    run = writer.open_run(resolve(Toy, {}))
    monkeypatch.setattr(outbox, "deliver", lambda client, message: (_ for _ in ()).throw(OSError("no space")))
    with writer.recording(run):
        run.array("a", np.arange(3), axes=("i",))
    monkeypatch.setattr(outbox, "deliver", real)
    connection.connect().set_tag(run.run_id, "reprod.process", "999999999:1.0")
    return run


def test_a_run_whose_messages_wait_is_not_dead(spooled, capsys):
    assert reprod("status", "--repair") == 0
    said = capsys.readouterr().out
    assert (
        f"waiting   {spooled.run_id}" in said and "messages of 1 runs are kept on this machine: `reprod sync`" in said
    )
    assert store.Store().get(spooled.run_id).status == "RUNNING", "not declared dead"
    with pytest.raises(BadInput, match="`reprod sync` comes first"):
        launch.resume(spooled.run_id)
    assert outbox.sync(connection.connect())[1] == 0
    assert store.Store().get(spooled.run_id).status == "FINISHED"


def test_a_damaged_line_of_the_spool_costs_that_line_alone(spooled, capsys):
    lines = spooled.outbox.spool.read_text().splitlines()
    spooled.outbox.spool.write_text("\n".join([*lines, json.dumps({"kind": "tags"})[:9]]))
    assert outbox.sync(connection.connect()) == (len(lines), 0)
    assert "a damaged line" in capsys.readouterr().err


def test_messages_of_a_run_that_is_not_over_are_left_alone(spooled):
    spooled.outbox.lock.acquire()
    assert outbox.sync(connection.connect())[0] == 0
    spooled.outbox.lock.release()
    assert outbox.sync(connection.connect())[1] == 0


# -- folders --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_written_is_a_sentence_before_anything_is_made(toy, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("precious")
    for words in (
        ["figures", "--figure", "fig4a", "--out", "file"],
        ["report", "--out", "file/x"],
        ["export", "--out", "file"],
    ):
        assert reprod(*words) == 2, words
        assert capsys.readouterr().err.startswith("reprod: --"), words
    assert (tmp_path / "file").read_text() == "precious"
    monkeypatch.setenv("REPROD_CACHE", str(tmp_path / "file" / "cache"))
    assert reprod("run", "toy") == 2
    assert "REPROD_CACHE" in capsys.readouterr().err
    assert store.Store().search("toy") == []
    monkeypatch.delenv("REPROD_CACHE")
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("no home"))))
    assert reprod("run", "toy") == 2
    assert "REPROD_CACHE" in capsys.readouterr().err
