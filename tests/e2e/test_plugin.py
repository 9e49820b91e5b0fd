"""A paper from outside the house, installed beside a wheel of reprod, used in an empty folder: it is listed, runs, is
killed and resumed, its figure draws, its claim is judged, it is cited."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FILES = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools>=77"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "galileo"
        version = "1.0"
        [project.entry-points."reprod.papers"]
        galileo = "galileo:PAPER"
        [tool.setuptools]
        packages = ["galileo"]
        package-data = { galileo = ["*.bib"] }
        """,
    "galileo/references.bib": "@book{galilei1638discorsi,\n  title = {Discorsi},\n  year = {1638},\n}\n",
    "galileo/__init__.py": """
        from reprod.papers import Experiment, Paper

        PAPER = Paper(
            "galileo", "Galilei, Discorsi, 1638", __name__, {"fall": Experiment(".fall:Fall", ".fall:drop")},
            cite=("galilei1638discorsi",), figures="galileo.pictures", bibliography="references.bib",
        )
        """,
    "galileo/fall.py": """
        import os, signal
        from dataclasses import dataclass
        import numpy as np
        import pandas as pd
        import torch
        from reprod.config import Config, param
        from reprod.training import State, loop, stream

        class Line(torch.nn.Module):
            def __init__(self, width):
                super().__init__()
                self.linear = torch.nn.Linear(width, 1)

            def forward(self, x):
                return self.linear(x)

        @dataclass(frozen=True, kw_only=True)
        class Fall(Config):
            '''A falling ball.'''

            experiment = "fall"
            paper = "galileo"
            iterations: int = param(40, at_least=1, help="steps")
            scales = {"smoke": {"iterations": 20}}

        def drop(config, run):
            run.each_seed(one)

        def one(config, run):
            noise, way = stream(config.seeds[0], "wind"), np.zeros(config.iterations)
            for k in loop(run, config.iterations, State(noise=noise, way=way), every=5):
                way[k - 1] = k**2 + noise.normal()
                if k == 12 and os.environ.get("FALL_KILL"):
                    os.kill(os.getpid(), signal.SIGKILL)
            run.log(config.iterations, {"way": way[-1]})
            run.array("way", way, axes=("step",), unit="m", about="how far it fell", exact=True)
            run.table("way", pd.DataFrame({"word": ["first", "last"], "way": [way[0], way[-1]]}), about="ends")
            run.model(Line(2), arguments={"width": 2}, example=torch.zeros(1, 2))
        """,
    "galileo/pictures.py": """
        import matplotlib.pyplot as plt
        import pandas as pd
        from galileo.fall import Fall
        from reprod.config import at_scale
        from reprod.figures.claims import AtLeast, our_limit
        from reprod.figures.figure import Drawing, figure

        @figure("fig1", source="Galilei 1638, third day", experiments=("fall",))
        class Way:
            '''The way grows as the square of time.'''

            def runs(self, scale):
                return [at_scale(Fall, scale, seeds=(0, 1))]

            def draw(self, runs):
                fig, ax = plt.subplots()
                for record in runs.records:
                    ax.plot(record.array("way"))
                return Drawing(fig, pd.concat([record.table("way") for record in runs.records]))

            def claims(self, runs):
                yield AtLeast(name="falls", statement="it falls", source="third day", published="", bound=0,
                              basis=our_limit("down"), samples=[r.array("way")[-1] for r in runs.records])
        """,
}


def build(source: Path, target: Path) -> Path:
    """A wheel of `source`, unpacked into `target`, as an installation without dependencies does it."""
    wheels = target.parent / f"{source.name}-wheel"
    code = f"import setuptools.build_meta as b; b.build_wheel({str(wheels)!r})"
    wheels.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(target)
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    ours, theirs, target = folder / "reprod", folder / "galileo", folder / "site"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if name.startswith(("reprod/", "analysis/")) or name in ("pyproject.toml", "README.md", "LICENSE"):
            (ours / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, ours / name, follow_symlinks=False)
    import textwrap

    for name, text in FILES.items():
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / name).write_text(textwrap.dedent(text))
    wheel = build(ours, target)
    with zipfile.ZipFile(wheel) as file:
        tops = {name.split("/")[0] for name in file.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"reprod"}, "one name in site-packages"
    build(theirs, target)
    return target


def test_a_paper_installed_beside_a_wheel(installed: Path, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "REPROD_"))}
    environment |= {"PYTHONPATH": str(installed), "REPROD_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}

    def reprod(*words: str, **more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", "from reprod.cli import main; main()", *words]
        return subprocess.run(command, cwd=empty, env={**environment, **more}, capture_output=True, text=True)

    killed = reprod("run", "fall", "-P", "scale=smoke", "-P", "seeds=0,1", FALL_KILL="yes")
    assert killed.returncode == -9, killed.stderr
    made = reprod("reproduce", "--paper", "galileo", "--scale", "smoke")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "1 of the jobs resumed" in made.stdout
    assert "galileo.fig1: figures/galileo.fig1-smoke.pdf" in made.stdout
    rows = (empty / "figures" / "galileo.fig1-smoke.csv").read_text()
    assert rows.count("last,") == 2
    assert "it falls" in made.stdout and "not comparable at this scale" in made.stdout
    listed = reprod("list")
    assert "galileo.fig1" in listed.stdout and "neural_ode.fig4a" in listed.stdout, listed.stderr
    cited = reprod("cite", "fall")
    assert cited.stdout.startswith("@book{galilei1638discorsi,")
    script = "from reprod.store import runs, Store; f = runs('fall'); print(len(f), Store().get(f.run_id[0]).model())"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=empty, env=environment, capture_output=True, text=True)
    assert loaded.stdout.startswith("2 Line("), loaded.stderr
    report = reprod("report", "--paper", "galileo", "--out", "site")
    assert report.returncode == 0 and (empty / "site" / "galileo.html").exists(), report.stderr
