"""MLflow's door to Slurm: which code runs. The queue itself is in tests/e2e/test_slurm.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from entrypoints import main as entry_points
from reprod import mlproject, papers, project
from reprod.jobs import backend, pool
from reprod.store import connection


@pytest.fixture
def queue(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was submitted to a Slurm that is always there."""
    tasks: list[object] = []
    job = SimpleNamespace(job_id="7", paths=SimpleNamespace(stderr="log"))
    executor = SimpleNamespace(submit=lambda task: tasks.append(task) or job)
    monkeypatch.setattr(pool, "slurm_executor", lambda options, folder: executor)
    return tasks


def submit(folder: Path, version: str | None, monkeypatch, **params: str) -> str:
    monkeypatch.setattr(backend, "fetch_and_validate_project", lambda *arguments: str(folder))
    submitted = backend.SlurmBackend().run(
        str(folder), "sphere_ode", params, version, {}, connection.tracking_uri(), "0"
    )  # fmt: skip
    return submitted.run_id


def test_another_version_of_the_project_runs_its_own_code(queue, tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "entrypoints").mkdir(parents=True)
    project_file = "name: reprod\nentry_points:\n  sphere_ode:\n    command: python -m entrypoints.sphere_ode\n"
    (other / "MLproject").write_text(project_file)
    code = "import json, os, sys\njson.dump([sys.argv[1:], dict(os.environ)], open('said.json', 'w'))\n"
    (other / "entrypoints" / "sphere_ode.py").write_text(code)
    for words in (["init", "-q"], ["add", "."],
                  ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]):  # fmt: skip
        subprocess.run(["git", *words], cwd=other, check=True)
    run_id = submit(other, "v1", monkeypatch, unknown_to_us="1")
    (task,) = queue
    assert isinstance(task, pool.ProjectTask) and task.folder == project.cache_dir() / "projects" / run_id
    (other / "entrypoints" / "sphere_ode.py").write_text("raise SystemExit('the folder has moved on')")
    assert task() == 0
    words, environment = json.loads((task.folder / "said.json").read_text())
    assert words == ["--unknown_to_us", "1"] and environment["MLFLOW_RUN_ID"] == run_id
    assert environment["PYTHONPATH"] == str(task.folder)
    # requeued, it goes on with what has become of the run
    connection.connect().set_tag(run_id, "reprod.config", "{}")
    assert task() == 0
    words, environment = json.loads((task.folder / "said.json").read_text())
    assert words == ["--resume", run_id] and "MLFLOW_RUN_ID" not in environment


def test_our_own_checkout_runs_as_it_is_and_bad_parameters_are_refused(queue, monkeypatch):
    run_id = submit(project.need_root(), None, monkeypatch, scale="smoke")
    (task,) = queue
    assert type(task) is pool.SlurmTask and task.job.resume == run_id and task.job.config.scale == "smoke"
    with pytest.raises(Exception, match="step_size=-1"):
        submit(project.need_root(), None, monkeypatch, step_size="-1")


def test_mlflow_run_without_an_entry_point_lists_them(capsys):
    assert entry_points.main() == 0
    said = capsys.readouterr().out
    assert all(f"mlflow run . -e {name} " in said for name in papers.ours())
    assert "  main:" in mlproject.text() and 'command: "python -m entrypoints.main"' in mlproject.text()
