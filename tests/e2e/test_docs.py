"""What README and docs say is so: links resolve, commands run, Python executes, the example experiment works.

Commands in sh blocks are run at scale smoke, in this process, on a copy of the paper's smoke store; those that need a
server, Slurm, conda or another machine are parsed: programs, options, experiments, parameters and figures must exist.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from reprod import cli, papers
from reprod.config import resolve, scaled_parameters
from reprod.figures.figure import figures
from reprod.jobs import launch, plan
from reprod.store import Record, Store, writer
from tests.conftest import DATA

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = {"export", "source", ".", "cd", "cat", "git", "curl", "pip", "apt-get", "su", "pytest"}  # not ours to test
PLACEHOLDER = re.compile(r"[A-Z]{1,}(_[A-Z]+)*$")


def paper_of(page: Path) -> str:
    return page.stem if page.stem in papers.papers() else "neural_ode"


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.M | re.S)
    return ["\n".join(line.removeprefix(indent) for line in text.splitlines()) for indent, text in found]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command: continued lines joined, comments, assignments and here-documents left out."""
    for block in blocks(page, "sh"):
        text = re.sub(r"<<(\w+)\n.*?^\1$", "", block, flags=re.M | re.S).replace("\\\n", " ")
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                yield words


def inline(page: Path) -> list[str]:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)
    return re.findall(r"`(reprod [^`]+)`", text.replace("\n", " "))


def in_groups(values) -> list:
    """(paper, words) parameters: once each, for the scale is smoke wherever it stands."""
    distinct = {}
    for page, words in values:
        words = words[2:] if words[:2] == ["python3", "bootstrap.py"] else words  # CI begins with the set-up itself
        same = re.sub(r"(--|-P )scale[ =]\w+", "", " ".join(words)).split()
        distinct.setdefault((paper_of(page), *same), (page, words))
    return [
        pytest.param(paper, words, id=f"{page.stem}: {' '.join(words)}", marks=pytest.mark.xdist_group(paper))
        for (paper, *_), (page, words) in distinct.items()
    ]


# -- links and languages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_images_resolve(page: Path):
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path = (page.parent / target.partition("#")[0]).resolve()
            assert path.exists(), f"{page.name} links to {target}"
            if path.suffix in (".png", ".svg"):
                assert path.stat().st_size < 250_000, f"{target} is too large for a page"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_stand_in_sh_blocks(page: Path):
    """An indented or unmarked block would not be tested."""
    outside = re.sub(r"^( *)```\w+\n.*?^ *```", "", page.read_text(), flags=re.M | re.S)
    assert not re.findall(r"^(?:    |```\n)(?:reprod|mlflow|python) .*", outside, re.M)


# -- commands -------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(smoke_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of the paper's smoke store that a test may add to."""
    shutil.copy(Path(smoke_store.uri.removeprefix("sqlite:///")), tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("REPROD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Store()


def trained(store: Store) -> Record:
    """A finished run that holds a model."""
    return next(r for r in store.search() if r.status == "FINISHED" and r.entity.outputs.model_outputs)


def killed(like: Record) -> str:
    """An interrupted run."""
    run = writer.open_run(resolve(type(like.config), {**like.config.spelled(), "seeds": "7"}))
    run.settle("KILLED")
    run.close()
    return run.run_id


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `reprod ...` names, and the words that it is given: `reprod archive add` is one in a group."""
    command, rest = typer.main.get_command(cli.app), words[1:]
    while rest and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"there is no command {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def parse(words: list[str]) -> dict:
    """The options of a `reprod` command, checked against what there is."""
    command, rest = command_of(words)
    given = {} if hasattr(command, "commands") else command.make_context(words[1], rest).params
    figures(given.get("paper"), given.get("experiment"), given.get("figure"))
    if words[1] in ("run", "sweep"):
        values = cli.pairs([w.replace("RUN_ID", "0" * 32) for w in given["parameters"] or ()])
        if "help" not in values:
            plan.grid(papers.known(given["experiment"]), values)
    return given


def shrunk(words: list[str], store: Store, paper: str) -> list[str]:
    """The command at scale smoke, with a real run."""
    name, rest = words[1], " ".join(words[2:])
    rest = re.sub(r"--scale \w+", "", rest)
    rest = re.sub(r"-P scale=\w+", "", rest)
    rest = re.sub(r"seeds=\S+", "seeds=0,1", rest)
    rest = re.sub(r"--out \S+", "--out made", rest)
    if "RUN_ID" in rest:
        run_id = killed(trained(store)) if name == "resume" else trained(store).id
        rest = rest.replace("RUN_ID", run_id)
    if name in ("run", "sweep"):
        for slow in scaled_parameters(papers.config_class(words[2])):
            rest = re.sub(rf"-P {slow}=\S+", "", rest)
        rest += " -P scale=smoke"
    if name in ("figures", "reproduce", "claims"):
        rest = rest.replace("--all", f"--paper {paper}") + " --scale smoke"
    if name == "reproduce" and "--paper" in rest:
        rest += " --dry-run"  # its figures are drawn by the contract
    if name == "export":
        rest = re.sub(r"--paper \S+", f"--paper {paper}", rest)
    return ["reprod", name, *rest.split()]


def heavy(words: list[str]) -> bool:
    """What other tests do at length (`report`, archives), and what needs Slurm."""
    return words[1] in ("report", "archive", "restore", "docs") or bool({"--archive", "slurm", "--slurm"} & set(words))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("paper", "words"), in_groups((page, words) for page in PAGES for words in commands(page)))
def test_a_command_of_the_documentation(store: Store, paper: str, words: list[str], capsys: pytest.CaptureFixture):
    match words:
        case []:
            assert (ROOT / "bootstrap.py").exists()
        case ["reprod", *_]:
            parse(words)
            if heavy(words):
                return
            status = launch.guarded(lambda: cli.app(shrunk(words, store, paper)[1:], standalone_mode=False) or 0)
            said = capsys.readouterr()
            assert status == 0 or (words[1] == "doctor" and status == 1), said.out + said.err
        case ["mlflow", *rest]:
            parse_mlflow(rest)
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module), module
        case ["python", script, *_]:
            ast.parse((ROOT / script).read_text())
        case [program, *_]:
            assert program in SHELL, f"unknown program {program}"


def parse_mlflow(words: list[str]) -> None:
    from mlflow.cli import cli as group

    while words[0] in getattr(group, "commands", {}):
        name, *words = words
        group = group.commands[name]
    given = group.make_context(name, list(words)).params
    if name == "run":
        values = cli.pairs(given["param_list"])
        resolve(papers.config_class(given["entry_point"]), values)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_within_the_text_parse(page: Path):
    for text in inline(page):
        words = shlex.split(text.replace("[", "").replace("]", ""))
        known = {option for parameter in command_of(words)[0].params for option in parameter.opts}
        assert {w for w in words if w.startswith("-")} <= known, text
        if len(words) > 2 and not any(PLACEHOLDER.match(w.rpartition("=")[2]) for w in words) and "..." not in text:
            parse(words)


# -- Python ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paper", [pytest.param("neural_ode", marks=pytest.mark.xdist_group("neural_ode"))])
def test_the_python_of_the_readme_executes(store: Store, paper: str):
    run_id = next(r.id for r in store.search("sphere_ode") if r.status == "FINISHED" and r.seed is not None)
    names: dict = {}
    code = [block for block in blocks(ROOT / "README.md", "python") if not block.startswith("# ")]
    assert len(code) >= 3
    for block in code:
        exec(compile(block.replace("RUN_ID", run_id), "README.md", "exec"), names)
    assert len(names["logits"]) == 8
    assert len(names["frame"]) >= 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_of_the_pages_names_what_there_is(page: Path):
    for block in blocks(page, "python"):
        if block.startswith("# "):
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(ast.unparse(node), {})


def with_the_recipe(folder: Path) -> None:
    """A copy of this checkout, with the files of "Add an experiment" added literally."""
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = tracked.stdout.split("\n") if tracked.returncode == 0 else []
    assert names, "this test copies a git checkout"
    for name in names:
        source = ROOT / name
        if name and (source.is_symlink() or source.is_file()) and source.stat().st_size < 1_000_000:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name, follow_symlinks=False)
    lines = 0
    for block in blocks(ROOT / "README.md", "python"):
        if block.startswith("# "):
            name, _, text = block.removeprefix("# ").partition("\n")
            lines += sum(bool(line.strip()) for line in text.splitlines())
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(path.read_text() + "\n" + text + "\n" if path.exists() else text + "\n")
    assert 50 < lines < 80, "short enough to be read at once"


def in_the_copy(folder: Path, *command: str, seconds: float) -> str:
    environment = {**os.environ, "REPROD_DATA": os.environ.get("REPROD_DATA", str(DATA)), "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_the_experiment_of_the_readme_passes_the_contract(tmp_path: Path):
    with_the_recipe(tmp_path)
    in_the_copy(tmp_path, "-m", "reprod.mlproject", seconds=60)
    said = in_the_copy(
        tmp_path, "-m", "pytest", "-n", "0", "tests/test_contract.py", "tests/test_architecture.py",
        "tests/e2e/test_report.py", "-k", "pendulum or architecture or mlproject_is", seconds=500,
    )  # fmt: skip
    assert int(re.search(r"\b(\d+) passed", said)[1]) >= 11, said  # type: ignore[index]
    assert "pendulum:" in (tmp_path / "MLproject").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_whole_suite_passes_with_the_experiment_of_the_readme(tmp_path: Path):
    with_the_recipe(tmp_path)
    in_the_copy(tmp_path, "-m", "reprod.mlproject", seconds=60)
    in_the_copy(tmp_path, "-m", "pytest", "--deselect", "tests/e2e/test_docs.py", "-n", "2", seconds=2900)
