"""How long a run will take: from finished runs of the store and of the archive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reprod import machine
from reprod.config import at_scale
from reprod.jobs import times
from reprod.store import Store
from reprod.store.archive.store import ArchiveStore
from tests.core.test_archive import archive, folder, made, other, rewritten  # noqa: F401
from tests.core.toy import Toy


def test_the_archive_gives_times_and_its_machine_a_factor(archive, other, monkeypatch):  # noqa: F811
    config = at_scale(Toy, "smoke", seeds=(5,))
    parent = next(r for r in ArchiveStore().search("toy") if r.seed is None)
    assert times.Times(Store(other)).estimate(config) == pytest.approx(parent.seconds / 2)
    here = ArchiveStore().machines("toys")

    def another(index, files):
        assert index["machines"] == here and len(here) == 1
        index["machines"] = {"old processor": 3 * next(iter(here.values()))}
        for run in index["runs"]:
            run["tags"]["reprod.cpu"] = "old processor"

    rewritten(archive, another)
    monkeypatch.setattr(times, "calibration", lambda: next(iter(here.values())))
    assert times.Times(Store(other)).estimate(config) == pytest.approx(parent.seconds / 2 / 3)
    assert times.Times(Store(other)).estimate(at_scale(Toy, "small")) is None


def as_small(archive):  # noqa: F811
    """The archive as if its runs were of scale small."""

    def change(index, files):
        for run in index["runs"]:
            config = json.loads(run["tags"]["reprod.config"]) | {"scale": "small"}
            run["tags"]["reprod.config"] = json.dumps(config)

    rewritten(archive, change)


def test_work_leads_from_one_scale_to_another(archive, other, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(Toy, "work", lambda self: float(self.niter))
    estimate = times.Times(Store(other)).estimate
    known = estimate(at_scale(Toy, "smoke"))
    assert estimate(at_scale(Toy, "small")) is None, "a smoke run is all set-up"
    as_small(archive)
    estimate = times.Times(Store(other)).estimate
    assert estimate(at_scale(Toy, "paper")) == pytest.approx(6 * known)
    assert estimate(replace(at_scale(Toy, "small"), niter=40)) == pytest.approx(4 * known)


def test_what_is_long_is_said_with_what_is_shorter(archive, other, monkeypatch):  # noqa: F811
    monkeypatch.setattr(Toy, "work", lambda self: {"paper": 1e9, "medium": 1e6}.get(self.scale, float(self.niter)))
    monkeypatch.setattr(Toy, "scales", {**Toy.scales, "medium": {"niter": 50}})
    as_small(archive)
    words = times.warning(at_scale(Toy, "paper"), times.Times(Store(other)))
    assert words.startswith("no GPU: about ") and "on this machine; scale=medium takes about" in words
    assert "scale=small takes" in words
    assert "no GPU" not in times.warning(at_scale(Toy, "smoke"), times.Times(Store(other)))


def test_a_damaged_archive_is_no_reason_not_to_start(archive: Path, other, capsys):  # noqa: F811
    archive.write_bytes(b"damaged")
    assert times.Times(Store(other)).estimate(at_scale(Toy, "smoke")) is None
    assert "no estimate from" in capsys.readouterr().out


def test_the_calibration_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPROD_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "CALIBRATION", 0.05)
    machine.calibration.cache_clear()
    measured = machine.calibration()
    assert 1e-5 < measured < 10
    assert list(json.loads((tmp_path / "calibration.json").read_text()).values()) == [measured]
    monkeypatch.setattr(machine, "_measured", lambda: pytest.fail("measured again"))
    machine.calibration.cache_clear()
    assert machine.calibration() == measured
    machine.calibration.cache_clear()


@pytest.mark.parametrize(("seconds", "words"), [(3, "3 s"), (180, "3 minutes"), (324000, "90 hours")])
def test_durations_are_spoken(seconds: float, words: str):
    assert times.spoken(seconds) == words
