"""What else may go wrong: a clock set back, files that carry code, an environment whose installation was cut off."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from reprod import doctor, store
from reprod.config import resolve
from reprod.errors import BadInput
from reprod.jobs import launch
from reprod.models import load_weights, save_weights
from reprod.neural_ode.models import SimpleOdeNet
from reprod.store import writer
from tests.core.toy import Toy


def test_a_clock_that_is_set_back_changes_no_order(toy, monkeypatch):
    assert launch.execute(resolve(Toy, {})) == 0
    straight = store.Store().search("toy")[0]
    now, readings = time.time(), iter(range(10**9))
    monkeypatch.setattr(writer.time, "time", lambda: now - 3600 * next(readings))  # an hour back at every reading
    assert launch.execute(resolve(Toy, {"shuffle": "false"})) == 0
    (record,) = [r for r in store.Store().search("toy") if not r.config.shuffle]
    assert record.status == "FINISHED" and record.metrics["seconds"] >= 0
    curve = record.history("walk/position")
    assert list(curve.index) == list(straight.history("walk/position").index)
    assert curve.index.is_monotonic_increasing
    assert record.metrics["walk/position"] == curve.iloc[-1]


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def poison(path: Path, described: Path, mark: Path) -> None:
    torch.save({"state": Payload(mark), "unsent": []}, path)
    described.write_text(
        json.dumps({**json.loads(described.read_text()), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    )


def test_code_in_a_checkpoint_is_not_run(toy, tmp_path, capsys):
    run = writer.open_run(resolve(Toy, {"checkpoint_every": "20"}))
    for iteration in (20, 40):
        run.save(iteration, {"x": torch.tensor(float(iteration))})
    run.settle("KILLED")
    assert run.close(30)
    newest = store.Store().get(run.run_id).path("checkpoints") / "iteration-000000040.pt"
    poison(newest, newest.with_suffix(".json"), tmp_path / "mark")
    again = writer.open_run(run.config, resume=run.run_id)
    assert again.restore() == (20, {"x": torch.tensor(20.0)})
    assert "iteration-000000040" in capsys.readouterr().err
    assert not (tmp_path / "mark").exists()
    again.settle("KILLED")
    again.close(10)


def test_code_in_weights_or_arrays_is_not_run(toy, tmp_path):
    save_weights(SimpleOdeNet(step_size=0.5), {"step_size": 0.5}, tmp_path)
    assert isinstance(load_weights(tmp_path), SimpleOdeNet)
    poison(tmp_path / "state.pt", tmp_path / "spec.json", tmp_path / "mark")
    with pytest.raises(BadInput, match="more than weights"):
        load_weights(tmp_path)
    assert launch.execute(resolve(Toy, {})) == 0
    (record,) = store.Store().search("toy")
    np.save(record.path("arrays/path.npy"), np.array([Payload(tmp_path / "mark")], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="another sha256"):
        record.array("path")
    described = json.loads(record.path("arrays/path.json").read_text())
    record.path("arrays/path.json").write_text(json.dumps({**described, "sha256": ""}))
    with pytest.raises(BadInput, match="Python objects in dtype"):
        record.array("path")
    assert not (tmp_path / "mark").exists()


def test_doctor_tells_an_environment_that_was_cut_off(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(tmp_path))
    for name, there in (("mlflow-whole", True), ("mlflow-half", False)):
        packages = tmp_path / name / "lib" / "python3.11" / "site-packages"
        (packages / "torch").mkdir(parents=True)
        if there:
            (packages / "torch" / "__init__.py").touch()
    found = [finding for good, what, finding in doctor.findings(None) if what == "half environment"]
    assert len(found) == 1
    assert "mlflow-half" in found[0] and "remove the folder" in found[0]
