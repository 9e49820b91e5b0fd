"""Files of CIFAR-10 and MNIST: every byte is checked, and the remedy that is named is one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from reprod import doctor
from reprod.data import images
from reprod.errors import BadInput

CONTENTS = {"a": b"first", "b": b"second", "c": b"third"}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of three small files, whole, in place of MNIST; its folder."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setitem(images.FILES, "mnist", ("MNIST/raw", sums))
    monkeypatch.setenv("REPROD_DATA", str(tmp_path))
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    return folder


def download(monkeypatch, folder: Path) -> None:
    """A network from which torchvision fetches what is not there (and takes all else for good)."""

    def fetch(root: str, download: bool) -> None:
        for name, content in CONTENTS.items():
            if not (folder / name).exists():
                (folder / name).write_bytes(content)

    from torchvision import datasets

    monkeypatch.setattr(datasets, "MNIST", fetch)


def no_network(monkeypatch) -> None:
    from torchvision import datasets

    def fetch(root: str, download: bool) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "MNIST", fetch)


def test_a_flipped_byte_is_found_and_the_named_command_mends_it(small, monkeypatch):
    images.ensure("mnist")
    (small / "b").write_bytes(b"sEcond")
    for ask in (lambda: images.ensure("mnist"), lambda: images.load("mnist", "train")):
        with pytest.raises(BadInput, match=r"mnist is damaged or incomplete .*b damaged.*`reprod data mnist` fetches"):
            ask()
    download(monkeypatch, small)
    images.ensure("mnist", repair=True)
    assert (small / "b").read_bytes() == b"second"
    assert images.faults("mnist") == {}


def test_a_missing_file_is_found_and_fetched(small, monkeypatch):
    (small / "c").unlink()
    assert images.faults("mnist") == {"c": "missing"}
    with pytest.raises(BadInput, match="c missing"):
        images.ensure("mnist")
    download(monkeypatch, small)
    images.ensure("mnist", repair=True)


def test_without_a_network_the_remedy_is_another_one(small, monkeypatch):
    no_network(monkeypatch)
    (small / "b").write_bytes(b"x")
    with pytest.raises(BadInput) as error:
        images.ensure("mnist", repair=True)
    assert "no route to host" in str(error.value) and "put its files there by hand" in str(error.value)
    assert "`reprod data" not in str(error.value), "the command that was just typed is no remedy"


def test_the_remedy_names_the_folder_that_was_asked_for(small, tmp_path, monkeypatch):
    no_network(monkeypatch)
    with pytest.raises(BadInput, match=r"mnist was not found in .*elsewhere"):
        images.ensure("mnist", str(tmp_path / "elsewhere"))
    with pytest.raises(BadInput, match=f"`reprod data mnist --data-dir {tmp_path}/elsewhere`"):
        images.load("mnist", "train", str(tmp_path / "elsewhere"))


def test_doctor_says_ok_only_of_whole_data(small):
    found = lambda: {what: (good, words) for good, what, words in doctor._data()}["data mnist"]  # noqa: E731
    assert found()[0] is True
    (small / "a").write_bytes(b"x")
    (small / "b").unlink()
    good, words = found()
    assert good is None and "a damaged, b missing" in words
    for name in ("a", "c"):
        (small / name).unlink()
    assert "downloaded at first use" in found()[1]


def test_the_table_holds_for_the_files_that_are_here():
    for name in images.NAMES:
        wrong = images.faults(name)
        if set(wrong.values()) == {"missing"}:
            pytest.skip(f"no {name} here")
        assert wrong == {}
