"""One contract for every entry point and every figure, at smoke scale: it runs, leaves what a run must leave, is killed
and resumed to the same numbers, and its figures build from the store alone.

New experiments and figures are covered by being registered; nothing here names one.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml

from reprod import mlproject, papers
from reprod.config import parameter_table, resolve, scaled_parameters
from reprod.figures.claims import NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, UNDECIDED
from reprod.figures.figure import figures, gather, write
from reprod.jobs import launch
from reprod.store import Record, Store
from reprod.store.checkpoints import sha256
from tests.workers import die_at_first_checkpoint, processes

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = list(papers.ours())
FIGURES = [figure for paper in papers.OURS for figure in figures(paper)]


def in_groups(names: list) -> list:
    """(paper, name) parameters; a paper's tests run in one worker and share its store."""
    of = [getattr(name, "paper", None) or papers.ours()[name].name for name in names]
    ids = [getattr(name, "id", name) for name in names]
    return [
        pytest.param(paper, name, id=id, marks=pytest.mark.xdist_group(paper))
        for paper, name, id in zip(of, names, ids, strict=True)
    ]


def finished(store: Store, name: str) -> list[Record]:
    return [r for r in store.search(name) if r.status == "FINISHED" and r.seed is not None]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("paper", "name"), in_groups(EXPERIMENTS))
def test_a_run_leaves_what_it_declares(smoke_store: Store, name: str):
    records = finished(smoke_store, name)
    assert records
    for record in records[:2]:
        assert record.entity.data.params == record.config.spelled()
        assert record.tags["reprod.digest"] == record.config.digest()
        assert record.tags["mlflow.note.content"]
        assert name in record.name
        metrics = {key: value for key, value in record.metrics.items() if key != "seconds"}
        assert metrics, "nothing to compare in the UI"
        arrays = list(record.path("arrays").rglob("*.npy"))
        assert arrays, "figures read arrays"
        for path in arrays:
            array = path.relative_to(record.path("arrays")).with_suffix("").as_posix()
            meaning = record.array_meaning(array)
            values = record.array(array)
            assert list(values.shape) == meaning["shape"]
            assert len(meaning["axes"]) == values.ndim
            assert meaning["about"], f"{array} says nothing about itself"
            assert meaning["sha256"] == sha256(path)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_entry_point_is_a_few_lines_and_knows_its_parameters(name: str, capsys: pytest.CaptureFixture):
    text = (ROOT / "entrypoints" / f"{name}.py").read_text()
    assert len(text.splitlines()) < 15
    assert f'entry_point("{name}")' in text
    assert launch.entry_point(name)(["--help"]) == 0
    shown = capsys.readouterr().out
    for row in parameter_table(papers.config_class(name)):
        assert f"  {row['name']} = {row['default']}" in shown
        assert row["help"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_scale_resolves(name: str):
    cls = papers.config_class(name)
    assert cls.experiment == name
    for scale in ("smoke", "small", "paper"):
        config = resolve(cls, {"scale": scale})
        assert resolve(cls, config.spelled()) == config


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("paper", "name"), in_groups(EXPERIMENTS))
def test_killed_and_resumed_equals_uninterrupted(smoke_store: Store, name: str):
    whole = finished(smoke_store, name)[0]
    config = resolve(type(whole.config), {**whole.config.spelled(), "checkpoint_every": "1"})
    assert config.digest() == whole.digest
    environment = {key: os.environ[key] for key in ("MLFLOW_TRACKING_URI", "REPROD_CACHE")}
    process = processes().Process(target=die_at_first_checkpoint, args=(config, environment))
    process.start()
    process.join(200)
    if process.exitcode == 0:
        pytest.skip(f"{name} is one computation without checkpoints: a killed run starts anew")
    assert process.exitcode == -signal.SIGKILL
    dead = next(r for r in smoke_store.search(name) if r.status == "RUNNING" and r.config.seeds == config.seeds)
    assert launch.resume(dead.id) == 0
    resumed = smoke_store.get(dead.id)
    assert resumed.status == "FINISHED"
    _alike(whole, resumed)


def _alike(a: Record, b: Record) -> None:
    batch = a.parent_id is not None  # a batch of another size may round differently
    for path in a.path("arrays").rglob("*.npy"):
        name = path.relative_to(a.path("arrays")).with_suffix("").as_posix()
        if name.startswith("timing"):
            continue
        if batch:
            np.testing.assert_allclose(b.array(name), a.array(name), rtol=1e-2, atol=1e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(b.array(name), a.array(name), err_msg=name)
    for name in a.metrics:
        if name != "seconds" and not name.startswith("timing"):
            assert list(a.history(name).index) == list(b.history(name).index), name


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("paper", "chosen"), in_groups(FIGURES))
def test_every_figure_builds_from_the_store(smoke_store: Store, chosen, tmp_path: Path):
    runs = gather(chosen, "smoke", smoke_store)
    pdf, png, table = write(chosen, runs, tmp_path)
    assert pdf.read_bytes().startswith(b"%PDF")
    image = plt.imread(png)
    assert image.shape[0] > 200
    assert image[..., :3].std() > 0.01, "an empty picture"
    with open(table) as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))
    text = table.read_text()
    assert len(rows) > 1 or "# remarks: " in text, "the plotted numbers, or why there are none"
    assert all(run_id in text for run_id in runs.ids)
    assert chosen.caption
    assert chosen.source
    again = write(chosen, runs, tmp_path / "again")
    assert again[2].read_bytes() == table.read_bytes(), "the same store gives the same numbers"
    for finding in chosen.findings(runs):
        assert finding.statement
        assert finding.verdict in (UNDECIDED, NOT_COMPARABLE) or not len(runs), "runs of seconds decide nothing"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("paper", "chosen"), in_groups(FIGURES))
def test_every_claim_can_say_no_and_yes(smoke_store: Store, chosen):
    """On altered runs, or altered samples: for a paper that is wrong, and for one that is right."""
    runs = gather(chosen, "smoke", smoke_store)
    for claim in chosen.claims(runs):
        scale = "theory" if not len(runs) else claim.scales[0]
        for change, made, verdict in (
            (claim.refuted_by, claim.refuted, NOT_REPRODUCED),
            (claim.confirmed_by, claim.confirmed, REPRODUCED),
        ):
            if change is None:
                other = made()
            else:
                other = next(c for c in chosen.claims(change(runs)) if c.name == claim.name)
            found = other.judge(scale)
            assert found.verdict == verdict, f"{claim.name}: {found.ours} ({found.reason})"


def test_a_figure_without_its_runs_says_which_and_how(store_uri: str):
    needy = next(figure for figure in FIGURES if figure.runs("small"))
    from reprod.errors import BadInput

    with pytest.raises(BadInput) as error:
        gather(needy, "small", Store())
    lines = str(error.value).splitlines()
    total = sum(len(config.seeds) for config in needy.runs("small"))
    assert lines[0] == f"{needy.id} at scale small lacks {total} of {total} runs; these commands make them:"
    assert lines[1].strip().startswith("reprod run ")
    assert f"reprod reproduce --figure {needy.id} --scale small" in lines[-1]


# -- MLproject ------------------------------------------------------------------------------------------------------


def test_mlproject_is_what_the_tables_of_parameters_say():
    assert (ROOT / "MLproject").read_text() == mlproject.text(), "python -m reprod.mlproject rewrites it"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_mlproject_passes_every_parameter_and_its_default(name: str):
    entry = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"][name]
    cls = papers.config_class(name)
    plain = resolve(cls, {}).spelled()
    declared = {key: value["default"] for key, value in entry["parameters"].items()}
    assert declared == {key: value for key, value in plain.items() if key not in scaled_parameters(cls)}
    words = entry["command"].split()
    assert words[:3] == ["python", "-m", f"entrypoints.{name}"]
    assert dict(zip(words[3::2], words[4::2], strict=True)) == {f"--{key}": f"{{{key}}}" for key in declared}


def test_help_is_quick_because_it_imports_little():
    code = "import sys, reprod.cli; print([m for m in ('torch', 'mlflow', 'pandas', 'matplotlib') if m in sys.modules])"
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
