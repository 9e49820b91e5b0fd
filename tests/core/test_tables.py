"""Tables and names: what comes back is what was given, or it is refused at once."""

from __future__ import annotations

import math
from importlib.metadata import EntryPoint

import numpy as np
import pandas as pd
import pytest

from reprod import papers, store
from reprod.config import resolve
from reprod.errors import BadInput
from reprod.figures.figure import figures
from reprod.jobs.compare import spread
from reprod.run import Run
from reprod.store import writer
from tests.core.toy import Toy

FRAME = pd.DataFrame({
    "word": ["a,b", 'q"q', "cr\rx", "line\nbreak", "", "NA", "nan", "é ü 日本"],
    "number": [1.5, math.nan, math.inf, -math.inf, 5e-324, 0.1 + 0.2, -0.0, 1e308],
    "count": np.array([0, 1, 2**63 - 1, -(2**63), 3, 4, 5, 6]), "switch": [True, False] * 4,
})  # fmt: skip


def test_a_table_comes_back_as_it_was(toy, store_uri: str):
    run = writer.open_run(resolve(Toy, {}))
    with writer.recording(run):
        run.table("odd/things", FRAME, units={"number": "1"}, about="all sorts")
        run.table("empty", pd.DataFrame(), about="nothing was found")
    record = store.Store().get(run.run_id)
    pd.testing.assert_frame_equal(record.table("odd/things"), FRAME, check_dtype=False)
    assert record.table("odd/things")["count"].dtype == np.int64
    assert record.table("empty").empty
    assert record.tables() == ["empty", "odd/things"]


@pytest.mark.parametrize("name", ["", "../../out", "/tmp/out", "a//b", "a/./b", "back\\slash", "new\nline"])
def test_a_name_that_would_leave_the_run_is_refused(toy, store_uri: str, name: str):
    for run in (Run(resolve(Toy, {})), writer.open_run(resolve(Toy, {}))):
        with pytest.raises(ValueError, match="is no name of an array or a table"):
            run.table(name, FRAME)
        with pytest.raises(ValueError, match="is no name of an array or a table"):
            run.array(name, np.zeros(2), axes=("x",))


@pytest.mark.parametrize(("frame", "says"), [
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "the same name"),
    (pd.DataFrame({"a": pd.Categorical(["x", "y"])}), "holds category"),
    (pd.DataFrame({"a": pd.to_datetime(["2026-01-01"])}), "holds datetime"),
    (pd.DataFrame({"a": [1, "x", True]}, dtype=object), "mixes words with int"),
])  # fmt: skip
def test_what_would_come_back_different_is_refused(frame: pd.DataFrame, says: str):
    with pytest.raises((TypeError, ValueError), match=says):
        Run(resolve(Toy, {})).table("t", frame)


@pytest.mark.parametrize(
    "value", ["json:dumps", "tests.core.test_tables:TAKEN", "tests.core.test_tables:TWICE", "no:PAPER"]
)
def test_a_faulty_paper_from_elsewhere_is_named_and_passed_over(value: str, monkeypatch, capsys):
    point = EntryPoint("theirs", value, "reprod.papers")
    monkeypatch.setattr(papers, "entry_points", lambda group: [point])
    papers.forget()
    try:
        assert list(papers.papers()) == list(papers.OURS)
        assert papers.experiments()["sphere_ode"].name == "neural_ode"
        assert f"the paper theirs of {value} is passed over" in capsys.readouterr().err
    finally:
        papers.forget()


TAKEN = papers.Paper("theirs", "T", __name__, {"sphere_ode": papers.Experiment("a:b", "c:d")})
TWICE = papers.Paper("le_sde", "T", __name__, {"fall": papers.Experiment("a:b", "c:d")})
LACKING = papers.Paper("theirs", "T", __name__, {"fall": papers.Experiment("a:b", "json:no")}, figures="not.there")


def test_figures_that_cannot_be_imported_cost_no_others(monkeypatch, capsys):
    monkeypatch.setattr(papers, "entry_points", lambda group: [EntryPoint("t", f"{__name__}:LACKING", "reprod.papers")])
    papers.forget()
    try:
        assert figures(id="neural_ode.fig4a")[0].id == "neural_ode.fig4a"
        assert "the figures of theirs (not.there) cannot be imported" in capsys.readouterr().err
        with pytest.raises(BadInput, match=r"the paper theirs .* has no json:no"):
            papers.function("fall")
    finally:
        papers.forget()


def test_sentences(toy, store_uri: str):
    aliased = type("Aliased", (Toy,), {"aliases": {"speed": "rate"}})
    with pytest.raises(BadInput, match="rate is given twice, as speed and as rate"):
        resolve(aliased, {"speed": "1", "rate": "2"})
    with pytest.raises(BadInput, match="has no run a'b"):
        store.Store().get("a'b")
    assert spread([1.7976931348623157e308, 1.7976931348623157e308]) == (math.inf, None)
