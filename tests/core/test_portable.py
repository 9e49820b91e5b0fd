"""Where Linux's own things are missing the code runs; workers see one GPU each; the lock is for every platform."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from reprod import doctor, machine
from reprod.jobs import pool
from reprod.jobs.plan import Job

ROOT = Path(__file__).resolve().parents[2]

HIDE = """
import os, signal, sys
sys.modules["fcntl"] = None
del os.sched_getaffinity, os.setpgid, signal.SIGUSR2

def no_proc(event, arguments):
    if event == "open" and str(arguments[0]).startswith("/proc"):
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename.startswith(os.environ["ROOT"]) and "packages" not in frame.f_code.co_filename:
                raise FileNotFoundError(arguments[0])
            if "packages" in frame.f_code.co_filename:
                return  # psutil's own business: it has another way for every platform
            frame = frame.f_back

sys.addaudithook(no_proc)
"""

IMPORT_AND_RUN = """
import importlib, pkgutil
import entrypoints, reprod
for package in (reprod, entrypoints):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from reprod import machine
from reprod.cli import app
from reprod.store import provenance, runs
assert machine.cores() == os.cpu_count()
assert provenance._cpu_name() == "", "/proc is not hidden"
status = app(["run", "xor_fan", "-P", "scale=smoke"], standalone_mode=False)
assert status == 0
assert len(runs("xor_fan")) == 1
"""


def test_the_package_imports_and_runs_without_fcntl_proc_affinity_and_sigusr2(store_uri):
    done = subprocess.run(
        [sys.executable, "-c", HIDE + IMPORT_AND_RUN], capture_output=True, text=True, timeout=280,
        env={**os.environ, "ROOT": str(ROOT), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# -- GPUs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "devices"), [("3,5", ["3", "5"]), ("", []), ("-1", []), ("GPU-ab, MIG-c", ["GPU-ab", "MIG-c"])]
)
def test_devices_are_those_that_the_environment_names(monkeypatch, named, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert machine.cuda_devices() == devices


def test_each_worker_sees_one_gpu_and_no_two_at_once_the_same(toy, monkeypatch):
    """Four jobs, two workers, two GPUs (that exist in the environment alone): what `walk` saw, in each job's log."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    jobs = [Job(toy.Toy(niter=10, seeds=(seed,), device="cpu")) for seed in range(4)]
    outcomes = pool.run_all(jobs, pool.Options(workers=2))
    assert [outcome.state for outcome in outcomes] == ["finished"] * 4, pool.summary(outcomes)
    seen = [re.findall(r"^sees (.*)$", outcome.log.read_text(), re.M) for outcome in outcomes]
    assert all(devices in (["3"], ["5"]) for devices in seen), seen
    assert [seen[0], seen[1]] == [["3"], ["5"]]


def test_more_workers_than_gpus_share_them_and_without_gpus_nothing_is_set(toy, monkeypatch):
    def seen(visible: str, workers: int) -> list[str]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        jobs = [Job(toy.Toy(niter=10, seeds=(seed,), rate=0.1 * workers)) for seed in range(workers)]
        outcomes = pool.run_all(jobs, pool.Options(workers=workers))
        return sorted(re.findall(r"^sees (.*)$", "\n".join(o.log.read_text() for o in outcomes), re.M))

    assert seen("7", 2) == ["7", "7"]
    assert seen("", 1) == [""]


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [(0, "finished", ""), (-9, "stopped", "stopped by SIGKILL"), (143, "stopped", "stopped by SIGTERM"),
     (2, "failed", "no output"), (255, "failed", "no output")],
)  # fmt: skip
def test_what_became_of_a_worker(toy, status, state, reason):
    """255 is what is left when the server that forked a worker was killed, and no signal."""
    outcome = pool.Outcome(Job(toy.Toy()))
    pool._settle(outcome, status)
    assert (outcome.state, outcome.reason) == (state, reason)


def test_a_slurm_task_asks_for_its_gpus(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr("shutil.which", lambda name, *a, **k: f"/usr/bin/{name}")
    executor = pool.slurm_executor(pool.options_from({"gpus": 1}, "slurm", 2), tmp_path)
    assert isinstance(executor, submitit.SlurmExecutor)
    text = executor._make_submission_file_text("true", "uid")
    assert "#SBATCH --gpus-per-node=1\n" in text


# -- the lock -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_lock_resolves_for_every_platform_and_python():
    """Asks the package index, but downloads nothing."""
    done = subprocess.run([sys.executable, ROOT / ".ci" / "platforms.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("wheels") == 16


def test_the_lock_names_no_index_and_hashes_everything():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert len(blocks) > 100
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_lock_has_all_that_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [word for words in project["optional-dependencies"].values() for word in words]
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.M))
    for requirement in map(Requirement, asked):
        name = requirement.name.lower().replace("_", "-")
        assert name in locked, f"{name}: make the lock again (pyproject.toml says how)"
        assert requirement.specifier.contains(locked[name]), requirement


# -- the environment ------------------------------------------------------------------------------------------------


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """bootstrap.py with a folder of its own for the environment, and the commands that it would run."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.commands = []
    for name, value in {
        "VENV": tmp_path / "venv", "BIN": tmp_path / "venv" / "bin", "STAMP": tmp_path / "venv" / "stamp",
        "run": lambda *words: module.commands.append(words), "stand_in": lambda: None,
    }.items():  # fmt: skip
        monkeypatch.setattr(module, name, value)
    (tmp_path / "venv").mkdir()
    return module


def test_without_cuda_torch_comes_from_another_index_and_the_rest_from_the_lock(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "--cpu"])
    bootstrap.main()
    locked, torch = (words for words in bootstrap.commands if "-r" in words or "--torch-backend" in words)
    assert "--require-hashes" in locked and "--no-deps" in locked
    pins = re.findall(r"^([\w-]+)==", Path(locked[-1]).read_text(), re.M)
    every = re.findall(r"^([\w-]+)==", bootstrap.LOCK.read_text(), re.M)
    left_out = set(every) - set(pins)
    assert {"torch", "torchvision", "triton", "nvidia-cublas"} <= left_out
    assert all(name.startswith(("torch", "triton", "nvidia-", "cuda-")) for name in left_out), left_out
    assert torch[-4:-2] == ("--torch-backend", "cpu")
    assert [word.partition("==")[0] for word in torch[-2:]] == ["torch", "torchvision"]

    bootstrap.commands.clear()  # later calls stay without CUDA, and have nothing to do
    monkeypatch.setattr(sys, "argv", ["bootstrap.py"])
    bootstrap.main()
    assert bootstrap.commands == []


def test_with_cuda_all_is_from_the_lock(bootstrap, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bootstrap.py"])
    bootstrap.main()
    (locked,) = (words for words in bootstrap.commands if "-r" in words)
    assert Path(locked[-1]) == bootstrap.LOCK
    assert not any("--torch-backend" in words for words in bootstrap.commands)


@pytest.mark.parametrize(
    ("have", "says"),
    [
        ({"numpy": "2.0", "torch": "2.15.0", "triton": "3.9"}, "3 packages as pinned"),
        ({"numpy": "2.0", "torch": "2.15.0+cpu"}, "2 packages as pinned"),
        ({"numpy": "2.0", "torch": "2.15.0"}, "1 not installed"),
        ({"numpy": "2.1", "torch": "2.15.0", "triton": "3.9"}, "numpy 2.1, lock 2.0"),
    ],
)
def test_doctor_compares_what_is_locked_for_this_machine(tmp_path, monkeypatch, have, says):
    (tmp_path / "requirements.lock").write_text(
        "numpy==2.0 \\\n    --hash=sha256:00\ntorch==2.15.0 \\\n    --hash=sha256:00\n"
        "triton==3.9 ; sys_platform != 'win32' \\\n    --hash=sha256:00\n"
        "pywin32==312 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
    )
    there = [SimpleNamespace(metadata={"Name": name}, version=version) for name, version in have.items()]
    monkeypatch.setattr(doctor, "distributions", lambda: there)
    assert says in doctor._locked(tmp_path)[2]
