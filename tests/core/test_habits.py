"""Habits of a command line: version, first words, completion, prefixes of ids, JSON, colours; runs side by side."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from reprod import cli
from reprod.errors import BadInput
from reprod.jobs import compare, launch
from reprod.store import Store

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def reprod(toy, capsys: pytest.CaptureFixture):
    """Run a command in this process: (status, standard output, standard error)."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = launch.guarded(lambda: cli.app(list(words), standalone_mode=False) or 0)
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def three(reprod) -> list[str]:
    """Two configurations of the toy: rate 0.1 with the seeds 0 and 1, rate 0.5 with seed 0. The ids of their runs."""
    for words in (("rate=0.1", "seeds=0,1"), ("rate=0.5", "seeds=0")):
        status, _, said = reprod("run", "toy", *(part for word in words for part in ("-P", word)))
        assert status == 0, said
    return [record.id for record in Store().search("toy")]


def test_version_and_first_words(reprod):
    assert reprod("--version") == (0, "reprod 0.1.0\n", "")
    status, said, _ = reprod()
    assert status == 0
    group = cli.typer.main.get_command(cli.app)
    shown = [line.split()[1] for line in said.splitlines() if line.startswith("  reprod ")]
    assert len(shown) == 5
    assert set(shown) <= set(group.commands)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("reprod ru", {"run", "runs"}),
        ("reprod run cifar_", {"cifar_ode", "cifar_dynamics", "cifar_resnet"}),
        ("reprod run sphere_ode -P step", {"step_size="}),
        ("reprod sweep xor_fan --scale s", {"small", "smoke"}),
        ("reprod figures --paper le", {"le_sde", "learning_coefficient"}),
    ],
)
def test_the_shell_completes(typed, offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_REPROD_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv[0] = 'reprod'; from reprod import cli; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **words},
        capture_output=True,
        text=True,
    )
    assert set(done.stdout.split()) == offered, done.stderr


def coloured(environment: dict[str, str]) -> bool:
    """Whether the bar of a training writes colours to a terminal."""
    code = "from reprod.training import progress\nwith progress('walk', 3) as advance: advance(3, None)"
    ours, theirs = pty.openpty()
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=theirs, env=variables)
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    process.wait()
    os.close(ours)
    assert b"walk" in text
    return b"\x1b[3" in text or b"\x1b[38" in text


def test_no_color():
    assert coloured({})
    assert not coloured({"NO_COLOR": "1"})


def test_a_run_is_named_by_the_beginning_of_its_id(three, monkeypatch):
    store = Store()
    for run_id in three:
        assert store.get(run_id[:8]).id == run_id
    with pytest.raises(BadInput, match="has no run"):
        store.get(three[0][:5])
    with pytest.raises(BadInput, match="has no run"):
        store.get("f" * 6 if not three[0].startswith("f" * 6) else "e" * 6)
    two = [store.client.get_run(run_id) for run_id in three[:2]]
    monkeypatch.setattr(store.client, "search_runs", lambda *a, **k: two)
    with pytest.raises(BadInput, match=f"begins the ids of several runs: {three[0]}, {three[1]}"):
        store.get(three[0][:6])


def test_commands_take_a_prefix(reprod, three):
    (one,) = [r for r in Store().search("toy") if r.config.rate == 0.5]
    assert reprod("verify", one.id[:6])[0] == 0
    assert "nothing to resume" in reprod("resume", one.id[:6])[2]


def test_json_is_all_that_is_printed(reprod, three):
    listed = json.loads(reprod("list", "--json")[1])
    (toys,) = [paper for paper in listed if paper["paper"] == "toys"]
    assert toys["experiments"] == [{"name": "toy", "about": "A random walk, for tests.", "runs": {"finished": 4}}]
    assert json.loads(reprod("status", "--json")[1]) == []
    every = json.loads(reprod("status", "--json", "--all")[1])
    assert {row["run"] for row in every} == set(three) and {row["state"] for row in every} == {"finished"}
    found = json.loads(reprod("diff", three[0], three[-1], "--json")[1])
    assert ("parameter", "rate") in {(row["what"], row["name"]) for row in found}


def test_scale_is_an_option_of_run_and_sweep(reprod, toy):
    assert reprod("run", "toy", "--scale", "smoke")[0] == 0
    assert [record.config.scale for record in Store().search("toy")] == ["smoke"]
    assert "say one of them" in reprod("run", "toy", "--scale", "smoke", "-P", "scale=small")[2]
    assert "expected one of paper" in reprod("sweep", "toy", "--scale", "tiny")[2]


def test_a_dry_run_of_a_sweep_runs_nothing(reprod):
    words = ("sweep", "toy", "--scale", "smoke", "-P", "rate=0.1,0.2", "--dry-run")
    status, said, _ = reprod(*words)
    assert status == 0
    assert "2 configurations: 0 finished, 2 to run in 2 jobs" in said
    assert "reprod run toy -P scale=smoke -P rate=0.1  (time unknown)" in said
    assert Store().search("toy") == []


def test_the_tracking_uri_holds_for_all_that_a_command_does(reprod, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    other = f"sqlite:///{tmp_path}/other.db"
    words = ("--scale", "smoke", "-P", "rate=0.1,0.2", "--tracking-uri", other)
    assert reprod("sweep", "toy", *words)[0] == 0
    assert len(Store(other).search("toy")) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert Store().search("toy") == []


# -- runs -----------------------------------------------------------------------------------------------------------


def test_runs_stand_side_by_side_with_mean_and_spread(reprod, three):
    rows = json.loads(reprod("runs", "toy", "--json")[1])
    assert [row["parameters"] for row in rows] == [{"rate": "0.1"}, {"rate": "0.5"}]
    assert [row["seeds"] for row in rows] == [[0, 1], [0]]
    metric = rows[0]["metrics"]["walk/position"]
    a, b = (r.metrics["walk/position"] for r in Store().search("toy") if r.config.rate == 0.1 and r.seed is not None)
    assert metric["mean"] == pytest.approx((a + b) / 2)
    assert metric["std"] == pytest.approx(abs(a - b) / 2**0.5)
    assert metric["n"] == 2
    assert rows[1]["metrics"]["walk/position"]["std"] is None
    table = reprod("runs", "toy")[1]
    assert "+-" in table
    assert table.split()[:2] == ["rate", "seeds"]


def test_runs_can_be_chosen_however_a_value_is_spelled(reprod, three):
    rows = json.loads(reprod("runs", "toy", "-P", "rate=5e-1", "--json")[1])
    assert [row["seeds"] for row in rows] == [[0]]
    assert "'walk/positon'; did you mean walk/position?" in reprod("runs", "toy", "--metric", "walk/positon")[2]
    assert "no finished runs of toy" in reprod("runs", "toy", "--scale", "small")[1]


def test_a_seed_counts_once_and_a_diverged_one_is_told(reprod, toy):
    words = ("run", "toy", "--scale", "smoke", "-P", "seeds=0,1", "-P", "diverge_seed=1")
    assert reprod(*words)[0] == 1
    reprod(*words)
    (row,) = json.loads(reprod("runs", "toy", "--json")[1])
    assert (row["seeds"], row["failed_seeds"]) == ([0], [1])
    assert "0 (1 failed)" in reprod("runs", "toy")[1]


def test_a_parameter_without_effect_is_left_empty(reprod):
    for solver in ("euler", "dopri5"):
        assert reprod("run", "toy", "--scale", "smoke", "-P", f"solver={solver}")[0] == 0
    rows = json.loads(reprod("runs", "toy", "--json")[1])
    assert [row["parameters"] for row in rows] == [
        {"solver": "dopri5", "step_size": ""}, {"solver": "euler", "step_size": "0.5"},
    ]  # fmt: skip


def test_a_sweep_ends_with_its_table(reprod, three):
    words = ("sweep", "toy", "--scale", "smoke", "-P", "rate=0.3,0.4", "-P", "seeds=0,1")
    for _ in range(2):  # the second time everything is there
        status, said, _ = reprod(*words)
        assert status == 0
        assert [line.split()[0] for line in said.splitlines() if "+-" in line] == ["0.3", "0.4"]


def test_seeds_are_spelled_as_the_command_line_reads_them():
    assert [compare.spell_seeds(seeds) for seeds in ([0], [0, 1], [0, 1, 2], [0, 2, 3])] == ["0", "0,1", "0-2", "0,2,3"]
