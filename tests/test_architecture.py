"""Who may import whom: the directions of the design, read off the sources, imports inside functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprod import papers

ROOT = Path(__file__).resolve().parents[1]

# What stands lower may not import what stands higher; rooms of one line may import each other, without a circle.
LAYERS = (
    ("errors",),
    ("__init__", "config", "papers", "project", "compiled", "machine"),
    ("run", "training", "models", "data"),
    tuple(papers.OURS),
    ("store",),
    ("jobs",),
    ("figures",),
    ("analysis",),
    ("cite", "mlproject", "doctor", "options", "archive_cli", "cli"),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "reprod").rglob("*.py")):
        if "analysis" not in path.relative_to(ROOT / "reprod").parts:
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path
    for path in sorted((ROOT / "analysis").rglob("*.py")):
        yield "reprod." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


NAMES = {name for name, _ in modules()}


def imported(name: str, path: Path) -> set[str]:
    """The modules of ours that a module imports at run time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in NAMES else base for a in node.names}
    return {module for module in found if module in NAMES and module != name}


GRAPH = {name: imported(name, path) for name, path in modules()}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_imports_go_down(name: str):
    for other in GRAPH[name]:
        assert LEVEL[room(other)] <= LEVEL[room(name)], f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(n for n in GRAPH if room(n) in papers.OURS))
def test_a_paper_knows_no_other_paper_and_no_store(name: str):
    for other in GRAPH[name]:
        assert room(other) not in set(papers.OURS) - {room(name)}, f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(n for n in GRAPH if room(n) == "analysis"))
def test_figures_know_their_own_paper_alone(name: str):
    own = name.partition("reprod.analysis.")[2].partition(".")[0]
    for other in GRAPH[name]:
        if room(other) in papers.OURS:
            assert room(other) == own, f"{name} imports {other}"
        if room(other) == "analysis":
            assert other.split(".")[2] == own, f"{name} imports {other}"


def test_there_is_no_circle():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for other in sorted(GRAPH[name]):
            visit(other, (*path, name))
        done.add(name)

    for name in sorted(GRAPH):
        visit(name, ())


def test_only_the_store_changes_a_store():
    """No other room names one of the calls by which MLflow's client changes something."""
    calls = {
        "set_tag", "set_terminated", "log_batch", "log_metric", "log_param", "log_artifact", "log_artifacts",
        "create_run", "update_run", "delete_run", "create_experiment", "set_experiment_tag", "create_logged_model",
        "log_inputs", "log_outputs", "delete_tag", "delete_artifacts",
    }  # fmt: skip
    for name, path in modules():
        if room(name) == "store":
            continue
        used = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert not used & calls, f"{name} changes the store itself: {used & calls}"


def test_nothing_of_ours_is_long():
    """A file that a reader can keep in mind. The figures' files are the ones that grew before."""
    for name, path in modules():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 620, f"{name} has {lines} lines"
        if room(name) == "analysis":
            assert lines <= 450, f"{name} has {lines} lines"


def test_the_core_names_no_paper():
    """Apart from the one line of `papers.py`."""
    for name, path in modules():
        if room(name) in (*papers.OURS, "analysis"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        words = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        named = words & {*papers.OURS, *papers.ours()}
        assert not named or (name == "reprod.papers" and named <= set(papers.OURS)), f"{name} names {named}"
