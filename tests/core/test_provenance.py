"""What a run says of its origin is true, or "unknown"."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reprod import project, store
from reprod.config import resolve
from reprod.errors import BadInput
from reprod.jobs import launch
from reprod.store import provenance, writer
from tests.core.toy import Toy


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A checkout of its own, with one commit; git's answers are asked for anew."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "MLproject").write_text("name: reprod\n")
    (folder / "tracked.py").write_bytes(b"x = '\xe9'\n")  # Latin-1
    for words in (["init", "-q"], ["add", "."],
                  ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]):  # fmt: skip
        subprocess.run(["git", *words], cwd=folder, check=True)
    monkeypatch.setattr(project, "root", lambda: folder)
    for cached in (project._commit, project.git_diff, project._tracked):
        cached.cache_clear()
    yield folder
    for cached in (project._commit, project.git_diff, project._tracked):
        cached.cache_clear()


def test_a_clean_checkout(checkout):
    commit, dirty = project.git_state()
    assert len(commit) == 40 and dirty is False and project.git_diff() == b""


def test_any_bytes_in_a_tracked_file(checkout, toy):
    (checkout / "tracked.py").write_bytes(b"x = '\xe8'\n")
    assert project.git_state()[1] is True
    assert b"+x = '\xe8'" in project.git_diff()
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    assert b"+x = '\xe8'" in record.path("provenance/uncommitted.diff").read_bytes()


@pytest.mark.parametrize("why", ["no checkout", "another user's", "no git"])
def test_what_git_cannot_tell_is_unknown_and_not_clean(checkout, toy, monkeypatch, why):
    if why == "no checkout":
        (checkout / ".git").rename(checkout / "gone")
    else:
        failed = subprocess.CompletedProcess([], 128, b"", b"fatal: detected dubious ownership")
        error = FileNotFoundError("git")
        monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed if why != "no git" else _raise(error))
    assert project.git_state() == ("unknown", None)
    tags = provenance.provenance(resolve(Toy, {}))
    assert (tags["reprod.git_commit"], tags["reprod.git_dirty"]) == ("unknown", "unknown")
    assert "mlflow.source.git.commit" not in tags


def _raise(error):
    raise error


def test_an_imported_module_that_git_does_not_track_is_kept_and_makes_the_tree_dirty(checkout, toy, monkeypatch):
    (checkout / "mine.py").write_text("y = 2\n")
    assert project.git_state()[1] is False, "it is there, but nobody imported it"
    monkeypatch.syspath_prepend(str(checkout))
    __import__("mine")
    try:
        assert project.git_state()[1] is True
        assert launch.execute(resolve(Toy, {})) == 0
    finally:
        del sys.modules["mine"]
    (record,) = store.Store().search("toy")
    assert record.tags["reprod.git_dirty"] == "true"
    assert record.path("provenance/untracked/mine.py").read_text() == "y = 2\n"


# -- the device -----------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """A machine that has a GPU, as far as we ask torch."""
    import torch

    used: dict[int, int] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {getattr(device, 'index', device) or 0}")
    for module in (provenance, writer):
        monkeypatch.setattr(module, "allocations", lambda: dict(used))
    return used


def test_the_tag_names_the_device_that_ran(toy, gpu, monkeypatch):
    tag = lambda run_id: store.Store().get(run_id).tags["reprod.device"]  # noqa: E731
    quiet = writer.open_run(resolve(Toy, {}))
    assert tag(quiet.run_id) == "unknown", "`auto`, with a GPU: it remains to be seen"
    with writer.recording(quiet):
        pass
    assert tag(quiet.run_id) == "cpu"
    busy = writer.open_run(resolve(Toy, {"seeds": "0,1"}))
    with writer.recording(busy):
        children = busy.children()
        gpu[1] = 5
    assert [tag(run.run_id) for run in (busy, *children)] == ["GPU 1"] * 3
    told = writer.open_run(resolve(Toy, {"seeds": "0,1"}))
    with writer.recording(told):
        children = told.children()
        told.note("device", "cuda:0")
        gpu[1] = 9
    assert [tag(run.run_id) for run in (told, *children)] == ["GPU 0"] * 3


def test_a_processor_is_known_from_the_start(toy, gpu):
    assert provenance.provenance(resolve(Toy, {"device": "cpu"}))["reprod.device"] == "cpu"


@pytest.mark.parametrize("device", ["cuda:x", "cuda:-1", "gpu", "mps"])
def test_a_device_that_does_not_exist_is_a_sentence(device):
    with pytest.raises(BadInput, match=f"device={device}"):
        resolve(Toy, {"device": device}).prepare()
