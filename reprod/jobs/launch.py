"""Run one experiment: from words on a command line to a settled run and an exit status."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from reprod import papers, project
from reprod.config import Config, parameter_table, resolve
from reprod.errors import BadInput, Diverged, Interrupted, masked

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
        note = os.environ.get("REPROD_NOTE", "")
        return guarded(
            lambda: _taking_over(name, lambda adopt: _run(name, _pairs(name, words), adopt=adopt, note=note))
        )

    return main


def guarded(action: Callable[[], int]) -> int:
    """Turn the exceptions of `reprod.errors` into one sentence and an exit status."""
    try:
        return action()
    except BadInput as error:
        _say(str(error))
        return BAD_INPUT
    except Diverged as error:
        _say(str(error))
        return FAILED
    except Interrupted as error:
        _say(f"{error}; {error.advice}" if error.advice else str(error))
        return 128 + error.signum


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(f"reprod: {masked(text)}", file=sys.stderr, flush=True)


def _taking_over(name: str, action: Callable[[str | None], int]) -> int:
    """Under `mlflow run` a run exists before we are asked (`MLFLOW_RUN_ID`): take it if it is for us, and let it end
    FAILED, with the sentence as its reason, where the input is bad. Raises `BadInput` for a run that is not ours."""
    made = os.environ.pop("MLFLOW_RUN_ID", "")
    if not made:
        return action(None)
    from reprod.store.connection import connect
    from reprod.store.writer import claim, settle

    claim(connect(), made, name)
    try:
        return action(made)
    except BadInput as error:
        try:
            settle(connect(), made, "FAILED", str(error))
        except Exception as trouble:
            _say(f"the run {made} could not be marked as failed: {trouble}")
        raise


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


def _run(name: str, values: Mapping[str, str], *, adopt: str | None = None, typed: bool = False, note: str = "") -> int:
    """`typed`: a person gave exactly these values (`mlflow run` passes the defaults, too)."""
    if run_id := values.get("resume"):
        return resume(run_id, entry=name, made=adopt)
    config = resolve(papers.config_class(name), values)
    say_ineffective(name, ineffective(config, values if typed else None))
    return execute(config, adopt=adopt, note=note, alone=True)


def _say_how_long(config: Config) -> None:
    from reprod.jobs.times import Times, warning
    from reprod.store import Store

    if words := warning(config, Times(Store())):
        print(f"reprod: {words}", file=sys.stderr, flush=True)


def ineffective(config: Config, typed: Iterable[str] | None = None) -> set[str]:
    """The given parameters that change nothing, given the others. Without `typed`: of those off their default."""
    return {config.aliases.get(name, name) for name in (config.given() if typed is None else typed)} & config.unused()


def say_ineffective(experiment: str, names: Iterable[str]) -> None:
    if idle := sorted(names):
        has = "has" if len(idle) == 1 else "have"
        _say(f"{', '.join(idle)} {has} no effect with the other parameters of this {experiment}")


def execute(
    config: Config,
    *,
    resume: str | None = None,
    adopt: str | None = None,
    parent_id: str | None = None,
    note: str = "",
    alone: bool = False,
) -> int:
    """Run an experiment in this process and record it. Returns the exit status; `BadInput` leaves no run behind.

    `alone`: it is no part of a larger plan, and a person wants to know how long it will take.
    """
    print(f"{config.title()}: looking at data, device and store", file=sys.stderr, flush=True)
    config.prepare()
    project.writable(project.cache_dir(), "work in progress (REPROD_CACHE names another folder)")
    project.seconds("REPROD_PATIENCE", 60.0)
    _check_upstream(config)
    if alone:
        _say_how_long(config)
    from reprod import training
    from reprod.store import writer

    training.signals.install()
    function = papers.function(config.experiment)
    with training.signals.deferred():  # a run that is half made would never be settled
        run = writer.open_run(config, resume=resume, adopt=adopt, parent_id=parent_id, note=note)
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


def resume(run_id: str, *, entry: str | None = None, made: str | None = None) -> int:
    """Continue an unfinished run behind its newest checkpoint, to the metrics of one that was never stopped.

    `made` is the empty run that `mlflow run -P resume=...` made for us: it then names the one that was continued.
    """
    from reprod.store import Store
    from reprod.store.liveness import alive
    from reprod.store.writer import point_to

    store = Store()
    record = store.get(run_id)
    parent = store.parent(record)
    if parent is not None and "reprod.sweep" not in parent.tags:
        record = parent  # one seed of several: they continue together
    if "reprod.sweep" in record.tags:
        raise BadInput(f"run {record.id} is a sweep: started again with the same words, it runs what is left")
    if entry and record.experiment != entry:
        raise BadInput(f"resume={run_id}: that is a run of {record.experiment}, not of {entry}")
    if record.status == "FINISHED":
        raise BadInput(f"run {record.id} is finished: there is nothing to resume")
    if record.status == "RUNNING" and (owner := alive(record.entity)):
        raise BadInput(
            f"run {record.id} is still running ({owner}); if you know that it is not: reprod status --dead {record.id}"
        )
    if waiting := store.undelivered.get(record.id):
        raise BadInput(f"run {record.id} has {waiting} messages that wait on this machine: `reprod sync` comes first")
    try:
        return execute(record.config, resume=record.id)
    finally:
        if made and made != record.id:
            point_to(store.client, made, record.id, record.name)


def _report(run: object) -> None:
    """The last words of a run: its id, its metrics, how to see it."""
    from reprod.store.writer import MlflowRun

    assert isinstance(run, MlflowRun)
    print(f"\n{run.config.title()}: run {run.run_id} {'FAILED: ' + run.failure if run.failure else 'FINISHED'}")
    for name in sorted(run.latest):
        print(f"  {name:<28} {run.latest[name]:.6g}")
    page = f"#/experiments/{run.client.get_run(run.run_id).info.experiment_id}/runs/{run.run_id}"
    print(f"See it: {see(os.environ.get('MLFLOW_TRACKING_URI', ''), page)}")
    print(f"Its figures: reprod figures --experiment {run.config.experiment} --scale {run.config.scale}", flush=True)


def see(uri: str, page: str) -> str:
    """How to look at a page of a store."""
    from reprod.store.connection import database

    if uri.startswith("http"):
        return f"{masked(uri).rstrip('/')}/{page}"
    where = "" if database(uri) == Path.cwd() / "mlflow.db" else f" --backend-store-uri {shlex.quote(masked(uri))}"
    return f"mlflow ui{where}, then http://127.0.0.1:5000/{page}"


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


def run_project(name: str, values: Mapping[str, str], manager: str | None, note: str = "") -> int:
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
        return _taking_over(name, lambda adopt: _run(name, values, adopt=adopt, typed=True, note=note))
    if "resume" not in values:
        resolve(papers.config_class(name), values).prepare()
    return _mlflow_run(name, values, manager, note)


def _mlflow_run(name: str, values: Mapping[str, str], manager: str, note: str) -> int:
    import subprocess

    from reprod.store.connection import connect

    connect()  # makes the store before MLflow opens it
    environment = {**os.environ, "PATH": _path()}
    environment.pop("MLFLOW_RUN_ID", None)
    environment |= {"REPROD_NOTE": note} if note else {}
    command = [sys.executable, "-m", "mlflow", "run", str(project.need_root()), "-e", name, "--env-manager", manager]
    if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        command += ["--experiment-id", number]
    else:
        command += ["--experiment-name", os.environ.get("MLFLOW_EXPERIMENT_NAME", name)]
    for key, value in values.items():
        command += ["-P", f"{key}={value}"]
    return subprocess.run(command, env=environment, check=False).returncode
