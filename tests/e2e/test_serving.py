"""The model of every paper that trains one, loaded in the three ways that MLflow offers, and re-solved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from reprod.store import Record, Store
from tests.e2e.conftest import BIN, free_port, wait_for

PAPERS = ("neural_ode", "le_sde", "residual_limit", "morse_graph", "learning_coefficient")
of_each_paper = pytest.mark.parametrize(
    "paper", [pytest.param(paper, marks=pytest.mark.xdist_group(paper)) for paper in PAPERS]
)


def trained(store: Store) -> list[Record]:
    """One finished run with a model for every experiment that trains one."""
    found: dict[str, Record] = {}
    for record in store.search():
        if record.status == "FINISHED" and record.seed is not None and record.entity.outputs.model_outputs:
            found.setdefault(record.experiment, record)
    return list(found.values())


def example(record: Record) -> np.ndarray:
    """The input example that was logged with the model."""
    model = mlflow.pyfunc.load_model(f"runs:/{record.id}/model")
    return np.asarray(model.input_example, dtype=model.metadata.get_input_schema().inputs[0].type)


@of_each_paper
@pytest.mark.timeout(600)
def test_weights_torch_and_pyfunc_give_the_same(smoke_store: Store, paper: str):
    records = trained(smoke_store)
    assert records, f"{paper} keeps no model"
    for record in records:
        x = example(record)
        with torch.no_grad():
            wanted = record.model()(torch.from_numpy(x)).numpy()
            theirs = mlflow.pytorch.load_model(f"runs:/{record.id}/model")(torch.from_numpy(x)).numpy()
        served = mlflow.pyfunc.load_model(f"runs:/{record.id}/model").predict(x)
        assert np.isfinite(wanted).all(), record.name
        np.testing.assert_allclose(theirs, wanted, atol=1e-5, err_msg=record.name)
        np.testing.assert_allclose(np.asarray(served), wanted, atol=1e-5, err_msg=record.name)


@pytest.mark.server
@pytest.mark.timeout(600)
@of_each_paper
def test_a_served_model_answers_over_http(smoke_store: Store, paper: str, tmp_path: Path):
    record = trained(smoke_store)[0]
    x, port = example(record), free_port()
    with torch.no_grad():
        wanted = record.model()(torch.from_numpy(x)).numpy()
    words = [BIN / "mlflow", "models", "serve", "-m", f"runs:/{record.id}/model", "--env-manager", "local"]
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [*words, "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip

    def ask(path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def answers() -> bool:
        try:
            ask("ping")
        except OSError:
            return False
        return True

    try:
        wait_for(answers, 240, f"the model is not served: {(tmp_path / 'log').read_text()[-2000:]}")
        said = json.loads(ask("invocations", json.dumps({"inputs": x.tolist()}).encode()))["predictions"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    np.testing.assert_allclose(said, wanted, atol=1e-5)


@pytest.mark.parametrize("paper", [pytest.param("neural_ode", marks=pytest.mark.xdist_group("neural_ode"))])
def test_a_loaded_neural_ode_is_solved_by_another_solver_in_two_lines(smoke_store: Store, paper: str):
    run_id = next(r.id for r in trained(smoke_store) if r.experiment == "sphere_ode")
    x = torch.randn(16, 1, 2)
    model = Store().get(run_id).model()
    fine, finer, adaptive = (
        model(x, **how) for how in (
            {"solver": "euler", "step_size": 1 / 512}, {"solver": "rk4", "step_size": 1 / 64},
            {"solver": "dopri5", "tol": 1e-6},
        )
    )  # fmt: skip
    assert (model(x) - finer).abs().max() > (fine - finer).abs().max(), "a coarse solver is farther from the flow"
    torch.testing.assert_close(finer, adaptive, atol=1e-2, rtol=1e-2)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("paper", PAPERS)
def test_an_experiment_is_a_function_that_needs_no_mlflow(paper: str, tmp_path: Path):
    """In a fresh process where importing MLflow is an error."""
    name = {
        "neural_ode": "sphere_ode", "le_sde": "le_sde_separation", "residual_limit": "resnet_lipschitz",
        "morse_graph": "iris_training", "learning_coefficient": "rescaling_invariance",
    }[paper]  # fmt: skip
    code = f"""
import sys
sys.modules["mlflow"] = None
from reprod import papers
from reprod.config import at_scale
from reprod.run import Run
run = Run(at_scale(papers.config_class("{name}"), "smoke"))
papers.function("{name}")(run.config, run)
assert run.metrics and run.arrays
assert all(len(array.axes) == array.values.ndim for array in run.arrays.values())
print("in memory:", len(run.arrays))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=500)
    assert "in memory:" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir()), "it wrote files"
