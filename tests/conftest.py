"""Every test has a store, a cache and threads of its own."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes with two threads each on two cores crawl
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import pytest

from reprod import papers
from reprod.config import at_scale
from reprod.jobs import launch, plan
from reprod.store import Store
from reprod.store.connection import connect

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if "REPROD_DATA" not in os.environ and DATA.exists():
    os.environ["REPROD_DATA"] = str(DATA)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a fresh store: copying it takes no time, making it seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def store_uri(tmp_path: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of its own, which is also the current one; the working folder is a fresh one."""
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("REPROD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REPROD_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    return uri


STORES: dict[str, Path] = {}  # one for each paper, made when its first test asks


@pytest.fixture
def smoke_store(paper: str, tmp_path_factory: pytest.TempPathFactory, empty_store: bytes, monkeypatch) -> Store:
    """A store with every run that some figure of the paper needs at smoke scale. Tests that ask for it belong to the
    xdist group of the paper, so that one worker makes it once."""
    new = paper not in STORES
    folder = tmp_path_factory.mktemp(paper) if new else STORES[paper]
    if new:
        (folder / "mlflow.db").write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("REPROD_CACHE", str(folder / "cache"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.chdir(folder)
    if new:
        _fill(paper)
        STORES[paper] = folder  # only now: a store that was filled half must not serve later tests
    return Store()


def _fill(paper: str) -> None:
    from reprod.figures.figure import figures

    configs = plan.figure_configs(figures(paper), "smoke")
    lonely = set(papers.known_paper(paper).experiments) - {c.experiment for c in configs}
    configs += [at_scale(papers.config_class(name), "smoke") for name in sorted(lonely)]
    while jobs := plan.make(configs, Store()).jobs:  # an experiment may read the runs of another: another round
        statuses = [launch.guarded(lambda job=job: launch.execute(job.config)) for job in jobs]
        assert not all(statuses), [job.title for job in jobs]
