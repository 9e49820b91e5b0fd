"""`mlflow run .` as typed where there is no conda: bootstrap's stand-in, through the real MLflow and call by call."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reprod.jobs import launch
from reprod.store import runs
from tests.e2e.conftest import BIN, ROOT, command

bootstrap = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("b", ROOT / "bootstrap.py"))
spec.loader.exec_module(bootstrap)

CREATE = ("conda", "env", "create", "-n", "mlflow-0", "--file")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `source .venv/bin/activate` gives after bootstrap, on a machine without conda."""
    venv = tmp_path / "venv"
    real = BIN / "activate"
    program(venv / "bin" / "activate", f". {real}\n" if real.exists() else f"export PATH={BIN}:$PATH\n")
    (venv / "bin" / "python").symlink_to(BIN / "python")
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "BIN", venv / "bin")
    others = [folder for folder in os.environ["PATH"].split(os.pathsep) if not Path(folder, "conda").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(others))
    bootstrap.stand_in()
    return {"PATH": os.pathsep.join([str(venv / "bin"), str(BIN), *others])}


def call(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess:
    variables = {name: text for name, text in {**os.environ, **environment}.items() if name != "CONDA_EXE"}
    return subprocess.run(words, env=variables, capture_output=True, text=True, timeout=280)


def with_real_conda(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    program(tmp_path / "miniconda" / "bin" / "conda", '#!/bin/sh\necho "the real one: $*"\n')
    program(tmp_path / "miniconda" / "bin" / "activate", 'echo "entered $1"\n')
    return {"PATH": f"{environment['PATH']}{os.pathsep}{tmp_path / 'miniconda' / 'bin'}"}


@pytest.mark.timeout(300)
def test_the_bare_command_of_mlflow_succeeds(environment, store_uri, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # where it is set MLflow hides what conda says
    done = call("mlflow", "run", str(ROOT), "-e", "sphere_ode", "-P", "scale=smoke", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "succeeded ===" in done.stderr
    assert "reprod: no conda here" in done.stderr
    assert list(runs("sphere_ode")["status"]) == ["FINISHED"]


def test_what_else_is_asked_of_it_is_refused_with_a_reason(environment):
    done = call("conda", "install", "numpy", environment=environment)
    assert done.returncode == 1
    assert "only stands in" in done.stderr
    assert done.stdout == ""


def test_another_project_does_not_get_this_environment(environment, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(ROOT / "conda.yaml", tmp_path / "other")
    refused = call(*CREATE, str(tmp_path / "other" / "conda.yaml"), environment=environment)
    assert refused.returncode == 1
    assert "other packages" in refused.stderr
    assert call(*CREATE, str(ROOT / "conda.yaml"), environment=environment).returncode == 0


def test_a_real_conda_gets_every_call(environment, tmp_path):
    both = with_real_conda(tmp_path, environment)
    for words in (["--help"], ["env", "list", "--json"], ["install", "a b"]):
        done = call("conda", *words, environment=both)
        assert done.stdout == f"the real one: {' '.join(words)}\n"
    assert "entered mlflow-0\n" in call("bash", "-c", "source activate mlflow-0", environment=both).stdout


def test_activate_is_what_it_was_without_conda_or_for_a_person(environment, tmp_path):
    python = "source activate {} && command -v python"
    for settings in (environment, with_real_conda(tmp_path, environment)):
        done = call("bash", "-c", python.format(""), "script", "argument", environment=settings)
        assert done.stdout.strip().startswith(str(BIN)), done
    alone = call("bash", "-c", python.format("mlflow-0"), environment=environment)
    assert alone.stdout.strip().startswith(str(BIN)), alone


def test_two_stand_ins_do_not_call_each_other(environment, tmp_path, monkeypatch):
    other = program(tmp_path / "other" / "bin" / "conda", bootstrap.STAND_IN)
    both = {"PATH": f"{environment['PATH']}{os.pathsep}{other.parent}"}
    assert call("conda", "env", "list", "--json", environment=both).stdout == '{"envs": []}\n'


def test_it_is_not_put_where_conda_is(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", with_real_conda(tmp_path, environment)["PATH"])
    assert not launch.conda_stands_in()
    (bootstrap.BIN / "conda").unlink()
    bootstrap.stand_in()
    assert not (bootstrap.BIN / "conda").exists()


def test_doctor_knows_it_from_a_real_conda(environment, monkeypatch):
    monkeypatch.setenv("PATH", environment["PATH"])
    assert launch.conda_stands_in()
    assert command("reprod", "doctor", PATH=environment["PATH"], check=False).stdout.count("stand-in") == 1
