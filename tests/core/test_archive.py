"""Archives: deterministic, lossless, read as a store and restored into one; what is damaged changes nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from reprod import cli, project
from reprod.config import at_scale, resolve
from reprod.errors import BadInput
from reprod.figures import archiving
from reprod.figures.claims import AtLeast, our_limit
from reprod.figures.figure import Drawing, Figure, gather, write
from reprod.jobs import launch, plan
from reprod.store import Store
from reprod.store.archive import format
from reprod.store.archive.format import Archive
from reprod.store.archive.restore import fetch, restore
from reprod.store.archive.store import ArchiveStore
from reprod.store.archive.take import Watched
from tests.core.toy import Toy

COMMIT = "ab12" * 10


class Walks:
    """Where walks end."""

    def runs(self, scale):
        return [at_scale(Toy, scale, seeds=(0, 1))]

    def draw(self, runs):
        import matplotlib.pyplot as plt
        import pandas as pd

        ends = [float(record.array("path")[-1]) for record in runs.records]
        fig, ax = plt.subplots()
        ax.plot(ends)
        return Drawing(fig, pd.DataFrame({"end": ends}))

    def claims(self, runs):
        samples = [record.metrics["walk/position"] for record in runs.records]
        about = {"name": "ends", "statement": "it ends somewhere", "source": "this test", "published": "-"}
        yield AtLeast(**about, basis=our_limit("a toy"), samples=samples, bound=-1e9, paper_n=2)


WALKS = Figure("toys.walks", "toys", "this test", ("toy",), "Where walks end.", Walks())


def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "git_state", lambda: (COMMIT, False))
    monkeypatch.setattr(project, "untracked_sources", list)  # these tests themselves, while they are being written


@pytest.fixture
def made(toy, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with the figure's runs, made at a known and clean commit."""
    clean(monkeypatch)
    assert launch.execute(at_scale(Toy, "smoke", seeds=(0, 1))) == 0
    return Store()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def added(folder: Path, scale: str = "smoke") -> list[str]:
    return list(archiving.add([WALKS], scale, Watched(), folder))


@pytest.fixture
def archive(made: Store, folder: Path) -> Path:
    added(folder)
    return folder / "toys.zip"


@pytest.fixture
def other(tmp_path: Path, empty_store: bytes) -> str:
    """Another, empty store."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mlflow.db").write_bytes(empty_store)
    return f"sqlite:///{tmp_path}/other/mlflow.db"


def content(database: str) -> dict[str, list]:
    """Every row of a store."""
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: sorted(map(repr, connection.execute(f"SELECT * FROM {table}"))) for table in tables}


# -- one file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.nan, -0.0, np.inf, 5e-324]), np.arange(1000, dtype=np.int64) ** 3,
        np.zeros((0, 3), np.float32), np.array(7), np.array(["word", "worte"]),
        np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\x7f" * 9, "<f8"),
        np.linspace(0, 1, 77, dtype=np.float32), np.ones((3, 5), bool), np.zeros(4, format.POINT),
    ],
    ids=lambda v: str(v.dtype)[:12] + str(v.shape),
)  # fmt: skip
def test_a_file_comes_back_to_the_last_bit(values: np.ndarray):
    saved = format.as_npy(values)
    member, packed = format.pack("arrays/x.npy", saved)
    assert format.unpack(member, packed, len(saved)) == saved


def test_shuffled_bytes_are_smaller_and_an_odd_rest_is_kept():
    rough = np.cumsum(np.random.default_rng(0).normal(size=4000)).astype(np.float32).tobytes() + b"abc"
    assert len(format.pack("model/weights/state.pt", rough)[1]) < len(format.pack("notes.txt", rough)[1])
    assert format.unpack(*format.pack("model/weights/state.pt", rough), len(rough)) == rough


def test_a_member_does_not_unpack_to_more_than_it_says():
    member, packed = format.pack("zeros.txt", bytes(10_000_000))
    with pytest.raises(ValueError, match="another"):
        format.unpack(member, packed, 1000)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", "C:/x", "", "a//b", "./a"])
def test_names_that_leave_their_folder(name: str):
    assert not format.safe(name)


# -- taking -----------------------------------------------------------------------------------------------------------


def test_the_same_runs_give_the_same_bytes(made: Store, folder: Path, tmp_path: Path):
    said = added(folder)
    assert "2 runs" in said[0]
    first = (folder / "toys.zip").read_bytes()
    assert "as it was" in added(folder)[-1]
    added(tmp_path / "elsewhere")
    assert first == (folder / "toys.zip").read_bytes() == (tmp_path / "elsewhere" / "toys.zip").read_bytes()


def test_an_archive_holds_all_of_a_run_but_checkpoints(archive: Path, made: Store):
    held = Archive(archive)
    assert set(held.runs) == {record.id for record in made.search()}
    for record in made.search():
        root = made.local_root(record.entity)
        files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        kept = {name: each for name, each in files.items() if not name.startswith("checkpoints/")}
        assert len(kept) < len(files) or record.seed is not None
        run = held.runs[record.id]
        assert {name: held.content(file) for name, file in run["files"].items()} == kept and not run["left_out"]
        assert run["params"] == record.params and run["start"] == record.start and run["end"] == record.end


def test_what_a_figure_reads_is_whole_and_what_nobody_reads_is_left_out(made, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(format, "LARGEST", 100)
    for record in made.search():
        if record.seed is not None:
            made.client.log_text(record.id, "long" * 100, "trace.txt")
    added(folder)
    store = ArchiveStore(folder)
    record = next(r for r in store.search("toy") if r.seed == 1)
    assert list(record.array("path")) == list(made.get(record.id).array("path"))
    left = record.entity.run["left_out"]["trace.txt"]
    assert left["size"] == 400 and left["sha256"] == format.digest_of(b"long" * 100)
    with pytest.raises(BadInput, match=r"left out of the archive for its size; `reprod run toy .*seeds=1"):
        record.path("trace.txt")


def test_the_list_for_a_program(archive: Path, folder: Path, made: Store):
    (one,) = json.loads(json.dumps(archiving.as_data(ArchiveStore(folder), "toys")))
    assert one["sha256"] == Archive(archive).sha256
    assert set(one["runs"]) == {record.id for record in made.search()}
    assert [(figure["figure"], figure["scale"]) for figure in one["figures"]] == [("toys.walks", "smoke")]


@pytest.mark.parametrize(("commit", "dirty", "says"), [
    ("", "false", "unknown"), (COMMIT, "true", "uncommitted"), (COMMIT, "unknown", "nobody knows"),
    ("?", "false", "commit"),
])  # fmt: skip
def test_a_run_of_unknown_origin_is_refused(made: Store, folder: Path, commit: str, dirty: str, says: str):
    for record in made.search():
        made.client.set_tag(record.id, "reprod.git_commit", commit)
        made.client.set_tag(record.id, "reprod.git_dirty", dirty)
    (sentence,) = added(folder)
    assert sentence.startswith("not added: toys.walks") and says in sentence
    assert not folder.exists()


def test_a_newer_run_takes_the_place_of_the_older_and_of_its_parents(archive: Path, folder: Path):
    before = set(Archive(archive).runs)
    assert launch.execute(at_scale(Toy, "smoke", seeds=(0, 1))) == 0
    added(folder)
    assert len(Archive(archive).runs) == 3 and not before & set(Archive(archive).runs)


def test_an_archive_beyond_its_budget_is_refused_and_stays(archive: Path, folder: Path, monkeypatch):
    before = archive.read_bytes()
    assert launch.execute(at_scale(Toy, "small", seeds=(0, 1))) == 0
    (folder / "another.zip").write_bytes(bytes(100))
    for limit in ("BUDGET", "TOGETHER"):  # of one, and of all
        with monkeypatch.context() as patch:
            patch.setattr(format, limit, 110)
            said = added(folder, "small")
        assert "does not fit" in said[0] and "path.npy" in said[0] and archive.read_bytes() == before


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_figure_from_the_archive_is_the_one_from_the_store(archive: Path, made: Store, tmp_path: Path):
    drawn = {}
    for name, store in (("store", made), ("archive", ArchiveStore(archive.parent))):
        runs = gather(WALKS, "smoke", store)
        drawn[name] = write(WALKS, runs, tmp_path / name)[2].read_text()
        assert [finding.value for finding in WALKS.findings(runs)]
    assert drawn["store"] == drawn["archive"]


def test_records_say_the_same(archive: Path, made: Store):
    store = ArchiveStore(archive)
    assert [r.id for r in store.search("toy")] == [r.id for r in made.search("toy")]
    for record in store.search():
        there = made.get(record.id)
        assert record.metrics == there.metrics and record.params == there.params and record.config == there.config
        assert {k: v for k, v in record.tags.items() if k != "reprod.figures"} == there.tags
        assert record.tags["reprod.figures"] == "toys.walks (smoke)"
        for metric in there.metrics:
            assert record.history(metric).equals(there.history(metric))
    parent = next(r for r in store.search() if r.seed is None)
    assert {child.seed for child in store.children(parent.id)} == {0, 1}
    config = at_scale(Toy, "smoke", seeds=(1,))
    assert store.find(config).id == made.find(config).id
    with pytest.raises(BadInput, match="no store to write to"):
        store.client.set_tag("x", "y", "z")


def test_reading_an_archive_imports_no_mlflow_and_no_torch(archive: Path):
    code = (
        "import sys; from reprod.store.archive.store import ArchiveStore; store = ArchiveStore();"
        "print(len(store.search('toy')), [r.array('path').shape for r in store.search('toy') if r.seed is not None]);"
        "from reprod.figures import figure, check, report; assert not {'mlflow', 'torch'} & set(sys.modules)"
    )
    path = ":".join([str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1] / "installed")])
    environment = {"PYTHONPATH": path, "REPROD_ARCHIVE": str(archive.parent), "REPROD_CACHE": str(archive.parent / "c")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "3 [(10,), (10,)]", done.stderr


# -- restoring --------------------------------------------------------------------------------------------------------


def test_restored_runs_are_the_ones_that_were_archived(archive: Path, made: Store, other: str):
    assert restore([Archive(archive)], other).new == 3
    there = Store(other)
    for record in made.search():
        back = there.get(record.id)
        assert (back.name, back.status, back.start, back.end) == (record.name, record.status, record.start, record.end)
        assert back.metrics == record.metrics and back.params == record.params
        assert back.tags == record.tags | {"reprod.figures": "toys.walks (smoke)"}
        assert all(back.history(m).equals(record.history(m)) for m in record.metrics)
        if record.seed is not None:
            assert (back.path("arrays/path.npy").read_bytes()) == record.path("arrays/path.npy").read_bytes()
            (data,) = back.entity.inputs.dataset_inputs
            assert data.dataset.name == "noise" and data.tags[0].value == "train"
    assert len(there.children(next(r.id for r in made.search() if r.seed is None))) == 2
    assert plan.make(WALKS.runs("smoke"), there).jobs == []
    assert launch.execute(at_scale(Toy, "small")) == 0, "and the store still takes new runs"


def test_restoring_again_changes_nothing(archive: Path, other: str):
    restore([Archive(archive)], other)
    before = content(other)
    assert (lambda done: (done.new, done.there))(restore([Archive(archive)], other)) == (0, 3)
    assert content(other) == before


def test_a_server_chooses_ids_and_the_store_understands_the_old_ones(archive, made, other, monkeypatch):
    from reprod.store.archive import restore as module

    monkeypatch.setattr(module, "_database", lambda store: None)  # as if over HTTP
    assert restore([Archive(archive)], other).renamed
    there = Store(other)
    for record in made.search():
        back = there.get(record.id)
        assert back.id != record.id and back.tags["reprod.archived_id"] == record.id
        assert back.metrics == record.metrics and (back.start, back.end) == (record.start, record.end)
        assert back.parent_id == (there.get(record.parent_id).id if record.parent_id else None)
    assert plan.make(WALKS.runs("smoke"), there).jobs == []
    again = restore([Archive(archive)], other)
    assert (again.new, again.there) == (0, 3)


def test_a_server_that_fails_half_way_is_cleared(archive, other, monkeypatch):
    from reprod.store.archive import restore as module

    monkeypatch.setattr(module, "_database", lambda store: None)
    monkeypatch.setattr("mlflow.tracking.MlflowClient.log_artifacts", lambda *_: 1 / 0)
    with pytest.raises(BadInput, match="nothing was restored"):
        restore([Archive(archive)], other)
    assert Store(other).search() == []


def test_a_store_with_another_run_of_that_id_is_left_as_it_was(archive: Path, made: Store):
    record = next(r for r in made.search() if r.seed == 0)
    made.client.log_metric(record.id, "walk/position", 99.0, step=999)
    before = content(made.uri)
    with pytest.raises(BadInput, match=rf"{record.id}.*other content \(metrics\).*nothing was restored"):
        restore([Archive(archive)], made.uri)
    assert content(made.uri) == before


def test_a_failure_half_way_leaves_nothing(archive: Path, other: str, monkeypatch: pytest.MonkeyPatch):
    from reprod.store.archive import restore as module

    before, insert, calls = content(other), module._insert, []

    def second_fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("No space left on device")
        insert(*arguments)

    monkeypatch.setattr(module, "_insert", second_fails)
    with pytest.raises(BadInput, match=r"nothing was restored.*No space left"):
        restore([Archive(archive)], other)
    after = content(other)
    assert after["runs"] == before["runs"] and after["metrics"] == before["metrics"] and after["tags"] == before["tags"]
    assert not list(Path(other.removeprefix("sqlite:///")).parent.glob("mlruns/toy/*/artifacts/*"))


def test_reproduce_takes_runs_from_the_archive(archive: Path, other: str, monkeypatch, tmp_path, capsys):
    from reprod.figures.reproduce import reproduce
    from reprod.jobs import pool

    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    options = pool.read_options("local", 1, None, {})
    assert reproduce([WALKS], "smoke", options, tmp_path / "out", dry_run=True) == 0
    assert "2 of them are in the archive" in capsys.readouterr().out and not Store(other).search()
    monkeypatch.setattr(pool, "run_all", lambda *_: pytest.fail("nothing is to run"))
    assert reproduce([WALKS], "smoke", options, tmp_path / "out", dry_run=False) == 0
    assert {r.id for r in Store(other).search()} == set(Archive(archive).runs)


# -- bad input --------------------------------------------------------------------------------------------------------


def rewritten(archive: Path, change) -> Path:
    """The archive with another index."""
    with zipfile.ZipFile(archive) as old:
        files = {name: old.read(name) for name in old.namelist()}
    index = json.loads(files[format.INDEX])
    change(index, files)
    files[format.INDEX] = json.dumps(index).encode()
    with zipfile.ZipFile(archive, "w") as new:
        for name, each in files.items():
            new.writestr(name, each)
    return archive


def slip(index, files):
    index["runs"][0]["files"]["../../outside"] = {"text": "x"}


def slip_id(index, files):
    index["runs"][0]["id"] = "../../../outside"


def newer(index, files):
    index["format"] = 99


def lacking(index, files):
    del files[next(name for name in files if name.startswith("data/"))]


def swapped(index, files):
    one, two, *_ = [name for name in files if name.startswith("data/")]
    files[one], files[two] = files[two], files[one]


def stranger(index, files):
    files["../evil"] = b"x"


def headless(index, files):
    del index["runs"][0]["params"], index["runs"][0]["id"]


@pytest.mark.parametrize(("change", "says"), [
    (slip, "outside the folder"), (slip_id, "not safe"), (newer, "newer than this reprod"), (lacking, "not in it"),
    (swapped, "sha256 is another"), (stranger, "evil"), (headless, "not what it must be"),
])  # fmt: skip
def test_a_bad_archive_is_one_sentence_and_the_store_is_as_it_was(archive, other, change, says, capsys):
    before = content(other)
    rewritten(archive, change)
    assert launch.guarded(lambda: cli.app(["restore", "--tracking-uri", other], standalone_mode=False)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert says in said[-1] and str(archive) in said[-1]
    assert content(other) == before
    assert not list(Path(other.removeprefix("sqlite:///")).parent.glob("mlruns/*/*")), "no file, no folder"


@pytest.mark.parametrize("damage", ["truncated", "foreign zip", "no zip", "flipped", "empty"])
def test_a_damaged_archive(archive: Path, other: str, damage: str):
    whole, before = archive.read_bytes(), content(other)
    if damage == "truncated":
        archive.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        with zipfile.ZipFile(archive) as file:
            info = next(i for i in file.infolist() if i.filename.startswith("data/"))
        middle = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
        archive.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    elif damage == "foreign zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("hello.txt", "hello")
    else:
        archive.write_bytes(b"" if damage == "empty" else b"hello" * 100)
    with pytest.raises(BadInput, match=str(archive)):
        restore([Archive(archive)], other)
    assert content(other) == before


def test_an_archive_from_elsewhere_is_checked(archive: Path, tmp_path: Path, toy):
    moved = shutil.copy(archive, tmp_path / "moved.zip")
    assert Archive(fetch(str(moved), Archive(archive).sha256)).paper == "toys"
    with pytest.raises(BadInput, match="its sha256 is"):
        fetch(str(moved), "00" * 32)
    with pytest.raises(BadInput, match="cannot be fetched"):
        fetch("http://127.0.0.1:9/archive.zip")
    with pytest.raises(BadInput, match="there is no archive"):
        Archive(fetch("nowhere.zip"))


def test_a_diverged_seed_is_archived_with_its_reason(toy, monkeypatch, folder):
    clean(monkeypatch)
    config = resolve(Toy, {"scale": "smoke", "seeds": "0,1", "diverge_seed": "1"})
    assert launch.execute(config) == 1
    diverging = Figure("toys.walks", "toys", "this test", ("toy",), "Where walks end.", Walks())
    monkeypatch.setattr(Walks, "runs", lambda self, scale: [config])
    list(archiving.add([diverging], "smoke", Watched(), folder))
    runs = gather(diverging, "smoke", ArchiveStore(folder))
    assert len(runs.records) == 1 and "left the finite numbers" in runs.failed[0]


# -- executing again --------------------------------------------------------------------------------------------------


def test_archived_runs_are_executed_again_and_compared(archive: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    from reprod.jobs import replay

    store = ArchiveStore()
    (outcome,) = replay.check(replay.quickest(replay.units(store, ["toys"])), store)
    assert outcome.verdict == replay.EQUAL and outcome.record.seed is None, "both seeds, as one batch"
    monkeypatch.setattr("tests.core.toy.stream", lambda seed, name: np.random.default_rng(seed + 1))
    assert cli.app(["archive", "check"], standalone_mode=False) == 1
    said = capsys.readouterr().out
    assert "different: toy" in said and "1 different" in said
    (outcome,) = replay.check(replay.units(store, ["toys"]), store, under=0)
    assert outcome.verdict == replay.UNCHECKED


def test_a_small_difference_on_another_processor_is_named(archive: Path, monkeypatch: pytest.MonkeyPatch):
    import tests.core.toy
    from reprod.jobs import replay

    monkeypatch.setattr("reprod.store.provenance.cpu", lambda: "another processor")
    store, walk = ArchiveStore(), tests.core.toy.walk

    def rounded(factor, config, run):
        walk(config, run)
        for child in run.children():
            child.arrays["path"].values[-1] *= 1 + factor

    for factor, verdict in ((1e-7, replay.NEAR), (1e-2, replay.DIFFERENT)):
        monkeypatch.setattr("tests.core.toy.walk", partial(rounded, factor))
        (outcome,) = replay.check(replay.units(store, ["toys"]), store)
        assert outcome.verdict == verdict and "array path" in outcome.about


def test_an_array_that_was_left_out_is_compared_by_its_sum(made: Store, folder: Path, monkeypatch):
    from reprod.jobs import replay

    monkeypatch.setattr(format, "LARGEST", 10)
    monkeypatch.setattr(Walks, "draw", lambda self, runs: Drawing(*_blank()))
    added(folder)
    store = ArchiveStore()
    assert any("arrays/path.npy" in record.entity.run["left_out"] for record in store.search())
    assert [outcome.verdict for outcome in replay.check(replay.units(store, ["toys"]), store)] == [replay.EQUAL]


def _blank():
    import matplotlib.pyplot as plt
    import pandas as pd

    return plt.figure(), pd.DataFrame()
