"""Run one experiment: from words on a command line to a settled run and an exit status."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from reprod import papers
from reprod.config import Config, parameter_table, resolve
from reprod.errors import BadInput, Diverged, Interrupted

OK, FAILED, BAD_INPUT = 0, 1, 2


def entry_point(name: str) -> Callable[..., int]:
    """The `main` of an entry point: `--key value` words to a validated `Config`, then the run. Returns the exit status.

    `--resume RUN_ID` continues that run with the parameters that it recorded.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        words = list(sys.argv[1:] if arguments is None else arguments)
        if {"-h", "--help"} & set(words):
            print(help_text(name))
            return OK
        return guarded(lambda: _run(name, _pairs(name, words)))

    return main


def guarded(action: Callable[[], int]) -> int:
    """Turn the exceptions of `reprod.errors` into one sentence and an exit status."""
    try:
        return action()
    except BadInput as error:
        print(f"reprod: {error}", file=sys.stderr)
        _fail_adopted(str(error))
        return BAD_INPUT
    except Diverged as error:
        print(f"reprod: {error}", file=sys.stderr)
        return FAILED
    except Interrupted as error:
        print(f"reprod: {error}", file=sys.stderr)
        return 128 + error.signum


def _fail_adopted(reason: str) -> None:
    """Under `mlflow run` the run exists before we are asked: let it end FAILED, with the sentence as its reason."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id is None:
        return
    try:
        from reprod.store.connection import connect
        from reprod.store.writer import settle

        settle(connect(), run_id, "FAILED", reason)
    except Exception as error:
        print(f"reprod: the run {run_id} could not be marked as failed: {error}", file=sys.stderr)


def _pairs(name: str, words: Sequence[str]) -> dict[str, str]:
    """`--key value` and `--key=value` to a dict."""
    values: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise BadInput(f"{name}: expected --parameter value, not {word!r}")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not rest:
                raise BadInput(f"{name}: --{key} needs a value")
            value = rest.pop(0)
        key = key.replace("-", "_")
        if key in values:
            raise BadInput(f"{name}: {key} is given twice")
        values[key] = value
    return values


def _run(name: str, values: Mapping[str, str]) -> int:
    if run_id := values.get("resume"):
        return resume(run_id, entry=name)
    config = resolve(papers.config_class(name), values)
    _say_how_long(config)
    return execute(config)


def _say_how_long(config: Config) -> None:
    from reprod.jobs.times import Times, warning
    from reprod.store import Store

    if words := warning(config, Times(Store())):
        print(f"reprod: {words}", file=sys.stderr, flush=True)


def execute(config: Config, *, resume: str | None = None, parent_id: str | None = None) -> int:
    """Run an experiment in this process and record it. Returns the exit status; `BadInput` leaves no run behind."""
    config.prepare()
    _check_upstream(config)
    from reprod import training
    from reprod.store import writer

    training.signals.install()
    function = papers.function(config.experiment)
    run = writer.open_run(config, resume=resume, parent_id=parent_id)
    with writer.recording(run):
        function(config, run)
    _report(run)
    return FAILED if run.failure else OK


def _check_upstream(config: Config) -> None:
    """What the run builds on is there, or can be computed here. Raises `BadInput`."""
    for seed in config.seeds:
        for wanted in config.for_seed(seed).upstream():
            from reprod.store.connection import connect
            from reprod.store.reader import lookup

            if lookup(connect(), wanted) is None and isinstance(wanted, Config):
                wanted.prepare()


def resume(run_id: str, *, entry: str | None = None) -> int:
    """Continue an unfinished run behind its newest checkpoint, to the metrics of one that was never stopped."""
    from reprod.store import Store
    from reprod.store.liveness import alive

    store = Store()
    record = store.get(run_id)
    if record.parent_id and "reprod.sweep" not in store.get(record.parent_id).tags:
        record = store.get(record.parent_id)  # one seed of several: they continue together
    if entry and record.experiment != entry:
        raise BadInput(f"resume={run_id}: that is a run of {record.experiment}, not of {entry}")
    if record.status == "FINISHED":
        raise BadInput(f"run {record.id} is finished: there is nothing to resume")
    if record.status == "RUNNING" and (owner := alive(record.tags)):
        raise BadInput(f"run {record.id} is still running ({owner})")
    made_by_mlflow = os.environ.pop("MLFLOW_RUN_ID", None)
    try:
        status = execute(record.config, resume=record.id)
    finally:
        if made_by_mlflow and made_by_mlflow != record.id:  # `mlflow run -P resume=...` made an empty run of its own
            from reprod.store.writer import point_to

            point_to(store.client, made_by_mlflow, record.id, record.name)
    return status


def _report(run: object) -> None:
    """The last words of a run: its id, its metrics, how to see it."""
    from reprod.store.writer import MlflowRun

    assert isinstance(run, MlflowRun)
    print(f"\n{run.config.title()}: run {run.run_id} {'FAILED: ' + run.failure if run.failure else 'FINISHED'}")
    for name in sorted(run.latest):
        print(f"  {name:<28} {run.latest[name]:.6g}")
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///")).parent
        where = "" if folder == Path.cwd() else f" --backend-store-uri {uri}"
        print(f"See it: mlflow ui{where}, then http://127.0.0.1:5000/#/experiments/{_place(run)}/runs/{run.run_id}")
    else:
        print(f"See it: {uri}/#/experiments/{_place(run)}/runs/{run.run_id}")
    print(f"Its figures: reprod figures --experiment {run.config.experiment} --scale {run.config.scale}", flush=True)


def _place(run: object) -> str:
    return run.client.get_run(run.run_id).info.experiment_id  # type: ignore[attr-defined]


def help_text(name: str) -> str:
    cls = papers.config_class(name)
    lines = [(cls.__doc__ or "").strip().splitlines()[0], "", f"reprod run {name} [-P parameter=value ...]", ""]
    for row in parameter_table(cls):
        default = f"{row['default']}" + (f" ({row['scales']})" if row["scales"] else "")
        allowed = f" [{row['allowed']}]" if row["allowed"] else ""
        lines += [f"  {row['name']} = {default}", f"      {row['help']}{allowed}"]
    return "\n".join(lines)


# -- which environment manager `mlflow run` can use here ------------------------------------------------------------


def managers() -> dict[str, str]:
    """Environment manager -> empty if usable here, else what it lacks."""
    import importlib.util

    missing = [m for m in ("torch", "mlflow", "torchdiffeq", "torchvision") if importlib.util.find_spec(m) is None]
    which = partial(shutil.which, path=_path())
    return {
        "local": f"this environment lacks {', '.join(missing)}" if missing else "",
        "conda": "" if which("conda") or os.environ.get("MLFLOW_CONDA_HOME") else "no conda on PATH",
        "uv": "" if which("uv") else "no uv on PATH (pip install uv)",
        "virtualenv": "" if which("pyenv") else "no pyenv on PATH",
    }


def _path() -> str:
    """Where `mlflow run` looks for programs when we start it: beside this Python, then on PATH."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def conda_stands_in() -> bool:
    """Whether the only `conda` here is the one that bootstrap.py wrote, which answers `mlflow run` alone."""
    found = [path for folder in _path().split(os.pathsep) if (path := Path(folder, "conda")).is_file()]
    return bool(found) and all(b"stand-in for conda" in conda.read_bytes()[:200] for conda in found)


def run_project(name: str, values: Mapping[str, str], manager: str | None) -> int:
    """`reprod run`: in this process where this environment has everything, else through `mlflow run`."""
    usable = managers()
    if manager is None:
        manager = next((m for m in ("local", "conda", "uv", "virtualenv") if not usable[m]), None)
        if manager is None:
            raise BadInput("no environment manager here: " + "; ".join(f"{m}: {why}" for m, why in usable.items()))
    elif manager not in usable:
        raise BadInput(f"--env-manager {manager}: expected one of {', '.join(usable)}")
    elif usable[manager]:
        raise BadInput(f"--env-manager {manager}: {usable[manager]}")
    if manager == "local":
        return _run(name, values)
    if "resume" not in values:
        resolve(papers.config_class(name), values).prepare()
    return _mlflow_run(name, values, manager)


def _mlflow_run(name: str, values: Mapping[str, str], manager: str) -> int:
    import subprocess

    from reprod import project
    from reprod.store.connection import connect

    connect()  # makes the store before MLflow opens it
    environment = {**os.environ, "PATH": _path()}
    place = os.environ.get("MLFLOW_EXPERIMENT_NAME", name)
    command = [sys.executable, "-m", "mlflow", "run", str(project.need_root()), "-e", name, "--env-manager", manager]
    command += ["--experiment-name", place]
    for key, value in values.items():
        command += ["-P", f"{key}={value}"]
    return subprocess.run(command, env=environment, check=False).returncode
