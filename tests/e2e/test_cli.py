"""The command line as a person uses it, in processes of its own: one run, looked at from every side; bad input."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import command

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, empty_store: bytes):
    """A finished sphere_ode run: its id, and the environment to look at it."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "mlflow.db").write_bytes(empty_store)
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "REPROD_CACHE": str(folder / "cache")}
    words = ("-P", "scale=smoke", "-P", "step_size=0.5", "-P", "seeds=0")
    done = command("reprod", "run", "sphere_ode", *words, **environment)
    assert "test/accuracy" in done.stdout
    assert "See it: mlflow ui" in done.stdout
    (run_id,) = re.findall(r"run ([0-9a-f]{32}) FINISHED", done.stdout)
    return run_id, environment


def test_list_names_the_run(run):
    text = command("reprod", "list", **run[1]).stdout
    assert re.search(r"sphere_ode .*\[1 finished\]", text)
    assert re.search(r"neural_ode\.fig4a .*smoke 1/2", text)


def test_load_rebuilds_the_model_and_mlflow_loads_it_in_a_fresh_process(run, tmp_path: Path):
    run_id, environment = run
    out = command("reprod", "load", run_id, "--out", str(tmp_path / "w.pt"), **environment).stdout
    assert "SimpleOdeNet" in out
    assert (tmp_path / "w.pt").exists()
    code = f"""
import mlflow, numpy as np, torch
from reprod.store import Store
mlflow.set_tracking_uri("{environment["MLFLOW_TRACKING_URI"]}")
x = torch.randn(5, 1, 2)
ours = Store().get("{run_id}").model()
with torch.no_grad():
    wanted = ours(x).numpy()
    finer = ours(x, solver="rk4", step_size=1 / 256).numpy()
    assert np.abs(finer - wanted).max() > 0
    theirs = mlflow.pytorch.load_model("runs:/{run_id}/model")
    np.testing.assert_allclose(theirs(x).numpy(), wanted, atol=1e-5)
served = mlflow.pyfunc.load_model("runs:/{run_id}/model")
np.testing.assert_allclose(served.predict(x.numpy()), wanted, atol=1e-5)
print("loaded three ways")
"""
    assert "loaded three ways" in command(sys.executable, "-c", code, **environment).stdout


def test_figures_say_what_is_missing_and_how_to_make_it(run, tmp_path: Path):
    words = ("--figure", "fig4a", "--scale", "smoke", "--out", str(tmp_path))
    done = command("reprod", "figures", *words, check=False, **run[1])
    assert done.returncode == 2
    assert "neural_ode.fig4a at scale smoke lacks 1 of 2 runs" in done.stdout
    assert "reprod run sphere_ode -P scale=smoke -P step_size=0.125" in done.stdout
    assert not list(tmp_path.iterdir())
    plan = command("reprod", "reproduce", "--figure", "fig4a", "--scale", "smoke", "--dry-run", **run[1]).stdout
    assert "1 finished, 1 to run in 1 jobs" in plan
    assert re.search(r"step_size=0.125  \(about \d+ s\)", plan)


def test_doctor_tells_what_is_here(run):
    done = command("reprod", "doctor", check=False, **run[1])
    for word in ("manager local", "manager conda", "manager uv", "data cifar10", "store", "devices", "Slurm", "lock"):
        assert word in done.stdout, word


BAD = {
    "unknown parameter": ("run cifar_ode -P toll=1", "cifar_ode has no parameter 'toll'; did you mean tol?"),
    "not a number": ("run cifar_ode -P tol=small", "tol=small: expected a number or none"),
    "out of range": ("run cifar_ode -P tol=-1", "tol=-1: must be greater than 0"),
    "not a choice": ("run cifar_ode -P solver=dopri", "solver=dopri: dopri is not one of"),
    "no step for Euler": ("run cifar_ode -P solver=euler", "solver=euler needs step_size"),
    "no tolerance for dopri5": ("run cifar_ode -P tol=none", "solver=dopri5 needs tol"),
    "missing data": ("run cifar_ode -P data_dir={empty}", "cifar10 was not found in"),
    "damaged data": ("run cifar_ode -P data_dir={damaged}", "cifar10 is damaged or incomplete"),
    "unreachable store": ("run xor_fan", "cannot reach the store http://127.0.0.1:9"),
    "unknown experiment": ("run cifar_od", "there is no experiment 'cifar_od'; did you mean cifar_ode?"),
    "unknown figure": ("figures --figure fig4z", "there is no figure 'fig4z'; did you mean fig"),
    "unknown scale": ("figures --figure fig4a --scale tiny", "--scale tiny: expected one of paper, medium, small"),
    "nonsense": ("run cifar_ode -P tol", "-P tol: expected NAME=VALUE"),
    "no such option": ("run cifar_ode --tol 1", "No such option: --tol"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_sentence_status_2_and_no_run(kind: str, run, tmp_path: Path):
    words, sentence = BAD[kind]
    damaged = tmp_path / "damaged" / "cifar-10-batches-py"
    damaged.mkdir(parents=True)
    (damaged / "data_batch_1").write_bytes(b"not a pickle")
    environment = dict(run[1])
    if kind == "unreachable store":
        environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    words = words.format(empty=tmp_path / "empty", damaged=tmp_path / "damaged")
    done = command("reprod", *words.split(), check=False, **environment)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("reprod: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert "Traceback" not in done.stderr
    if kind != "unreachable store":
        from reprod.store import Store

        before = os.environ.get("MLFLOW_TRACKING_URI")
        found = Store(environment["MLFLOW_TRACKING_URI"]).search()
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI")
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
        assert len(found) == 1
