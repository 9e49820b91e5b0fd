"""Figures in other hands: a user's matplotlibrc, a damaged run among good ones, a folder that is somebody's."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from reprod import store
from reprod.config import resolve
from reprod.errors import BadInput
from reprod.figures import check, figure, report, style
from reprod.jobs import launch
from reprod.store import connection, export
from tests.core.toy import Toy


class Paths:
    """The walks of some rates."""

    def __init__(self, *rates: float):
        self.rates = rates

    def runs(self, scale: str) -> list[Toy]:
        return [Toy(rate=rate) for rate in self.rates]

    def draw(self, runs: figure.Runs) -> figure.Drawing:
        import matplotlib.pyplot as plt

        fig, ax = plt.subplots()
        for record in runs.records:
            ax.plot(record.array("path"), label=f"{record.config.rate}")
        return figure.Drawing(fig, pd.DataFrame({"end": [record.array("path")[-1] for record in runs.records]}))

    def claims(self, runs: figure.Runs) -> list:
        return [r.array("path") for r in runs.records][:0]


def registered(name: str, *rates: float) -> figure.Figure:
    return figure.Figure(f"toys.{name}", "toys", "nowhere", ("toy",), "walks", Paths(*rates))


@pytest.fixture
def two(toy) -> list[figure.Figure]:
    """Two figures, each of a run of its own."""
    for rate in ("0.1", "0.2"):
        assert launch.execute(resolve(Toy, {"rate": rate})) == 0
    return [registered("one", 0.1), registered("two", 0.2)]


def damage(record: store.Record, how: str) -> None:
    path = record.path("arrays/path.npy")
    content = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(content[:-9])
        case "altered":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "objects":
            np.save(path, np.array([{}], dtype=object), allow_pickle=True)
        case "no description":
            path.with_suffix(".json").unlink()
        case "empty, undescribed":
            path.write_bytes(b"")
            described = json.loads(path.with_suffix(".json").read_text())
            path.with_suffix(".json").write_text(json.dumps({**described, "sha256": ""}))


HOW = ["missing", "empty", "truncated", "altered", "objects", "no description", "empty, undescribed"]


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_array_is_named_with_its_run_and_the_other_figures_are_drawn(two, tmp_path, capsys, how):
    (bad,) = [r for r in store.Store().search("toy") if r.config.rate == 0.1]
    damage(bad, how)
    with pytest.raises(BadInput, match=f"run {bad.id} .*path.*reprod run toy"):
        bad.array("path")
    drawn, complaints = figure.draw_all(two, "paper", store.Store(), tmp_path / "out", log=True)
    assert drawn == 1 and len(complaints) == 1 and bad.id in complaints[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"toys.two-paper.{ending}" for ending in ("csv", "pdf", "png")
    ]
    rows = check.check(two, "paper", store.Store())
    assert [row.figure for row in rows] == ["toys.one"] and bad.id in rows[0].claim.reason


def test_a_figure_that_breaks_and_one_that_cannot_be_kept_cost_the_others_nothing(two, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(two[0].what, "draw", lambda runs: 1 / 0)
    client = connection.connect()
    client.delete_experiment(connection.experiment_id(client, "figures"))
    drawn, complaints = figure.draw_all(two, "paper", store.Store(), tmp_path / "out", log=True)
    assert drawn == 1
    assert complaints[0] == "toys.one cannot be drawn (ZeroDivisionError: division by zero)"
    assert "toys.two is drawn, but not kept in the store: the MLflow experiment figures (id" in complaints[1]
    assert "restore --experiment-id" in complaints[1]


def test_a_run_that_cannot_be_read_is_named_and_passed_over_everywhere(two, tmp_path, capsys):
    bad, good = store.Store().search("toy")
    for tag in ('{"colour": "blue"}', "[1]", "{"):
        bad.store.client.set_tag(bad.id, "reprod.config", tag)
        frame = store.runs("toy")
        assert list(frame.run_id) == [good.id]
        assert bad.id in capsys.readouterr().err or tag != '{"colour": "blue"}', "said once"
        assert figure.draw_all([two[0]], "paper", store.Store(), tmp_path / "out", log=False)[0] == 1
        from reprod.jobs import housekeeping, plan

        assert len(plan.make([Toy(rate=0.1), Toy(rate=0.2)], store.Store()).jobs) == 1
        assert list(housekeeping.differences(store.Store().get(bad.id), good))
        assert export.export(store.Store(), store.Store().search("toy"), tmp_path / f"out{len(tag)}") == (2, 0)


def test_rows_of_several_scales_are_said(two, capsys):
    assert launch.execute(resolve(Toy, {"scale": "smoke"})) == 0
    capsys.readouterr()
    assert len(store.runs("toy")) == 3
    assert "runs of several scales (paper, smoke)" in capsys.readouterr().err
    assert list(store.runs("toy", scale="smoke").niter) == [10]
    assert capsys.readouterr().err == ""


def test_an_export_takes_the_figures_along_and_says_what_it_lacks(two, tmp_path, capsys, monkeypatch):
    import shutil

    figure.draw_all(two, "paper", store.Store(), tmp_path / "drawn", log=True)
    source = store.Store()
    records = [*source.search(), *source.drawn("toys")]
    assert len(records) == 4
    assert export.export(source, records, tmp_path / "out") == (4, 0)
    copy = store.Store(f"sqlite:///{tmp_path}/out/mlflow.db")
    assert sorted(r.name for r in copy.drawn()) == ["toys.one (paper)", "toys.two (paper)"]
    assert all(r.path(f"{r.tags['reprod.figure']}-paper.png").exists() for r in copy.drawn())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", source.uri)
    figure.draw_all(two[:1], "paper", source, tmp_path / "drawn", log=True)
    again = [*source.search(), *source.drawn("toys")]
    assert export.export(source, again, tmp_path / "out") == (1, 3), "one was drawn again"
    gone = source.search("toy")[0]
    shutil.rmtree(gone.path(""))
    lacking: list[str] = []
    export.export(source, source.search("toy"), tmp_path / "other", lacking)
    assert lacking == [f"run {gone.id} ({gone.name}): its artifacts are gone"]


def test_the_users_matplotlibrc_changes_nothing(two, tmp_path):
    def pixels(out: str) -> bytes:
        figure.draw_all([two[0]], "paper", store.Store(), tmp_path / out, log=False)
        return (tmp_path / out / "toys.one-paper.png").read_bytes()

    plain = pixels("plain")
    theirs = {"axes.facecolor": "black", "font.family": "serif", "text.usetex": True, "figure.figsize": (1, 1)}
    with matplotlib.rc_context(theirs):
        assert pixels("theirs") == plain
        assert matplotlib.rcParams["text.usetex"] is True, "and theirs is as it was"
    with style.applied():
        assert matplotlib.rcParams["axes.spines.top"] is False


# -- the folder of a report -----------------------------------------------------------------------------------------


def test_a_report_removes_only_what_a_report_wrote(toy, tmp_path: Path, monkeypatch, capsys):
    thesis = tmp_path / "thesis"
    (thesis / "neural_ode").mkdir(parents=True)
    for name in ("index.html", "neural_ode/chapter.tex"):
        (thesis / name).write_text("precious")
    with pytest.raises(BadInput, match="no earlier report"):
        report.build(store.Store(), thesis, paper="neural_ode")
    assert {p.read_text() for p in thesis.rglob("*") if p.is_file()} == {"precious"}
    monkeypatch.setattr(report, "figures", lambda paper: [])
    site = tmp_path / "site"
    report.build(store.Store(), site)
    (site / "neural_ode").mkdir()
    (site / "neural_ode" / "mine.txt").write_text("precious")
    (site / "neural_ode" / "old.svg").write_text("x")
    mark = site / report.MARK
    assert "index.html" in mark.read_text()
    mark.write_text(mark.read_text() + "neural_ode/old.svg\n../thesis/index.html\n")
    monkeypatch.setattr(
        report, "figures", lambda paper: [figure.Figure("neural_ode.x", "neural_ode", "", (), "", None)]
    )
    monkeypatch.setattr(report, "show", lambda each, *a: report.Shown(each, "small"))
    report.build(store.Store(), site, scale="small")
    assert (site / "neural_ode" / "mine.txt").exists() and not (site / "neural_ode" / "old.svg").exists()
    assert (thesis / "index.html").exists()
