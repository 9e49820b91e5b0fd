"""Many runs: local worker processes, or Slurm through submitit. One code path runs a job; only who starts it differs.

Local jobs are forked from a server process that has imported torch and MLflow once, so a job starts in milliseconds
and dies alone (elsewhere than on Linux each starts afresh, in seconds). Threads are shared out: two workers on two
cores get one each; and so are CUDA devices, one to a worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reprod.errors import BadInput, Interrupted, nearest
from reprod.jobs.plan import Job
from reprod.machine import cores, cuda_devices


@dataclass
class Outcome:
    """What became of a job."""

    job: Job
    state: str = "waiting"  # waiting, running, finished, failed, stopped, elsewhere (another process is at it)
    log: Path | None = None
    began: float = 0.0
    ended: float = 0.0
    reason: str = ""

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0


@dataclass
class Options:
    """How jobs are started. The Slurm fields mean what sbatch's options of the same name mean."""

    launcher: str = "local"
    workers: int = 1
    time_minutes: int = 240
    mem_gb: float = 8
    cpus: int = 1
    gpus: int = 0
    partition: str | None = None
    max_requeues: int = 10
    extra: dict[str, Any] = field(default_factory=dict)  # further options of submitit's SlurmExecutor


def read_options(launcher: str, workers: int, file: Path | None, single: Mapping[str, str]) -> Options:
    """Options from a JSON file, with single ones over it. Raises `BadInput` for an unknown name or a bad value."""
    try:
        given: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file else {}
        given |= {name: _number(text) for name, text in single.items()}
    except (OSError, ValueError) as error:
        raise BadInput(f"--slurm {file}: {error}") from error
    return options_from(given, launcher, workers)


def options_from(given: Mapping[str, Any], launcher: str, workers: int) -> Options:
    names = {f.name: f for f in dataclasses.fields(Options)}
    for name, value in given.items():
        if name not in names or name in ("launcher",):
            raise BadInput(f"Slurm has no option {name!r} here{nearest(name, names)}")
        if name not in ("partition", "extra") and (not isinstance(value, (int, float)) or value < 0):
            raise BadInput(f"Slurm option {name}={value}: expected a number")
    return Options(**{"launcher": launcher, "workers": workers, **given})


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def check(options: Options) -> None:
    """Raise `BadInput` where this launcher cannot work here."""
    if options.launcher not in ("local", "slurm"):
        raise BadInput(f"--launcher {options.launcher}: expected local or slurm")
    if options.launcher == "slurm":
        slurm_executor(options, Path(tempfile.gettempdir()))


def run_all(jobs: Sequence[Job], options: Options, *, parent_id: str | None = None, wait: float = 600) -> list[Outcome]:
    """Run the jobs; a failed one does not stop the others. Ctrl-C, SIGTERM and a closed terminal stop the running ones
    with a checkpoint and raise `Interrupted`; what is finished stays finished.

    A job that another process of this machine is at is left to it; for at most `wait` seconds we wait for what becomes
    of it.
    """
    folder = log_folder()
    outcomes = [Outcome(job, log=folder / f"{index:04d}-{job.config.experiment}.log") for index, job in enumerate(jobs)]
    launch = {"local": _local, "slurm": _slurm}[options.launcher]
    with _showing(outcomes):
        launch(outcomes, options, parent_id, wait)
    return outcomes


def log_folder() -> Path:
    from reprod.project import cache_dir

    stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{os.getpid()}"
    folder = cache_dir() / "logs" / stamp
    folder.mkdir(parents=True, mode=0o700)  # Slurm's task files hold the environment, with what is secret in it
    return folder


# -- one job, in a process of its own -------------------------------------------------------------------------------


def run_job(job: Job, parent_id: str | None) -> int:
    """Run a job in this process; the exit status."""
    from reprod.jobs import launch

    return launch.guarded(lambda: launch.execute(job.config, resume=job.resume, parent_id=parent_id))


def _in_worker(job: Job, parent_id: str | None, log: str, environment: dict[str, str], threads: int) -> None:
    """The body of a local worker process."""
    os.environ.update(environment)
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which passes it on once
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    threading.Thread(target=_stop_with, args=(os.getppid(),), daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    status = run_job(job, parent_id)
    sys.stdout.flush()
    os._exit(status)


def _stop_with(parent: int) -> None:
    """Ask this process to stop (with a checkpoint) when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _context(threads: int) -> Any:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    if sys.platform != "linux":  # no fork on Windows, and none that is safe beside macOS' frameworks
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "reprod.store.writer", "reprod.jobs.launch"])
    return context


class _Claims:
    """Which process of this machine is at which run, before the store can know: a lock for each seed's identity. Two
    commands that are started at once share their runs, and none is made twice. A dead process holds no lock."""

    def __init__(self) -> None:
        from reprod.project import cache_dir
        from reprod.store.connection import tracking_uri

        self.folder = cache_dir() / "claims"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = hashlib.sha256(tracking_uri().encode()).hexdigest()[:8]
        self.planned = time.time()
        self.held: dict[int, list[FileLock]] = {}
        self.refused: set[int] = set()

    def take(self, outcome: Outcome) -> bool:
        """Claim all seeds of a job, or none."""
        config = outcome.job.config
        paths = [self.folder / f"{self.store}-{config.for_seed(seed).digest()}.lock" for seed in config.seeds]
        touched = any(path.exists() and path.stat().st_mtime > self.planned for path in paths)
        locks: list[FileLock] = []
        try:
            for path in paths:
                locks.append(FileLock(path))
                locks[-1].acquire(timeout=0)
                os.utime(path)
        except Timeout:
            for lock in locks:
                lock.release()
            self.refused.add(id(outcome))
            return False
        self.held[id(outcome)] = locks
        if touched:
            self.refused.add(id(outcome))
        return True

    def contested(self, outcome: Outcome) -> bool:
        """Whether another process had it since we planned: then the store must be asked again."""
        return id(outcome) in self.refused

    def release(self, outcome: Outcome) -> None:
        for lock in self.held.pop(id(outcome), []):
            with contextlib.suppress(OSError):
                os.utime(lock.lock_file)
            lock.release()


def _still_to_do(outcome: Outcome, again: bool) -> bool | None:
    """Ask the store again about a job that another process had: True: (what is left of) it is ours; False: it is done;
    None: somebody is at it."""
    from reprod.jobs import plan
    from reprod.store import Store

    if again:
        return True
    found = plan.make([outcome.job.config], Store())
    if found.running:
        return None
    if found.jobs:
        outcome.job = found.jobs[0]
        return True
    outcome.state = "failed" if found.failed else "finished"
    outcome.reason = "by another process"
    return False


def _local(outcomes: Sequence[Outcome], options: Options, parent_id: str | None, wait: float) -> None:
    workers = min(options.workers, len(outcomes)) or 1
    threads = _threads_asked_for() or max(1, cores() // workers)
    context = _context(threads)
    environment = _passed_on()
    devices = cuda_devices() or [""]
    free = [devices[i % len(devices)] for i in range(workers)]  # one for each worker that is not busy
    waiting = list(outcomes)
    active: dict[Any, tuple[Outcome, str]] = {}
    claims, idle_since = _Claims(), 0.0
    with _stopping() as stop:
        while waiting or active:
            for outcome in list(waiting):
                if stop or len(active) >= workers:
                    break
                if not claims.take(outcome):
                    continue
                if claims.contested(outcome) and not (ours := _still_to_do(outcome, outcome.job.again)):
                    claims.release(outcome)
                    if ours is False:
                        waiting.remove(outcome)
                    continue
                waiting.remove(outcome)
                device = free.pop(0)
                sees = {"CUDA_VISIBLE_DEVICES": device} if device and ":" not in outcome.job.config.device else {}
                arguments = (outcome.job, parent_id, str(outcome.log), environment | sees, threads)
                process = context.Process(target=_in_worker, args=arguments)
                process.start()
                active[process] = outcome, device
                outcome.state, outcome.began = "running", time.monotonic()
            if stop and not active:
                break
            while len(stop) > stop.passed_on:
                stop.passed_on += 1
                for process in active:
                    os.kill(process.pid, signal.SIGTERM)
            if active or not waiting:
                idle_since = 0.0
            elif not idle_since:
                idle_since = time.monotonic()
                print(
                    f"reprod: another process is at {len(waiting)} of these jobs: waiting for it, {wait / 60:.0f} min "
                    "at most (--wait)",
                    file=sys.stderr,
                )
            elif time.monotonic() - idle_since > wait:
                for outcome in waiting:
                    outcome.state, outcome.reason = "elsewhere", "of this machine"
                break
            if active:
                multiprocessing.connection.wait([process.sentinel for process in active], timeout=0.5)
            else:
                time.sleep(0.5)
            for process in [process for process in active if process.exitcode is not None]:
                outcome, device = active.pop(process)
                free.append(device)
                _settle(outcome, process.exitcode)
                claims.release(outcome)
        if stop:
            raise Interrupted(stop[0])


def _threads_asked_for() -> int:
    """`OMP_NUM_THREADS`, which may be a list by level (`4,2`); 0 where it says nothing."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def _passed_on() -> dict[str, str]:
    """The environment that matters to a job; the run that `mlflow run` may have made is not the job's."""
    kept = ("MLFLOW_", "REPROD_", "CUDA_")
    return {k: v for k, v in os.environ.items() if k.startswith(kept) and k != "MLFLOW_RUN_ID"}


def _settle(outcome: Outcome, status: int) -> None:
    outcome.ended = time.monotonic()
    if status == 0:
        outcome.state = "finished"
    elif (number := -status if status < 0 else status - 128) in list(signal.Signals):
        outcome.state, outcome.reason = "stopped", f"stopped by {signal.Signals(number).name}"
    else:
        outcome.state, outcome.reason = "failed", _last_words(outcome.log)


def _last_words(log: Path | None) -> str:
    lines = log.read_text(errors="replace").splitlines() if log and log.exists() else []
    ours = [line.removeprefix("reprod: ") for line in lines if line.startswith("reprod: ")]
    errors = [line for line in lines if "Error" in line]
    return (ours or errors or lines or ["no output"])[-1][:300]


class _Stop(list[int]):
    """The signals that asked to stop, and how many of them the jobs have been told of."""

    passed_on = 0


@contextlib.contextmanager
def _stopping() -> Iterator[_Stop]:
    """Collect the signals that ask to stop, instead of raising: one, and after two seconds a second one."""
    from reprod import training

    stop, since = _Stop(), 0.0

    def receive(signum: int, _frame: Any) -> None:
        nonlocal since
        if not stop:
            training.aside(
                "stopping: each running job ends after its iteration at hand, with a checkpoint; the same again stops "
                "them at once and loses what came after their last checkpoint"
            )
        elif time.monotonic() - since < 2.0 or len(stop) > 1:
            return
        stop.append(signum)
        since = time.monotonic()

    signals = [s for s in training.STOPPING if s != getattr(signal, "SIGUSR2", None)]
    before = {s: signal.signal(s, receive) for s in signals if signal.getsignal(s) != signal.SIG_IGN}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


# -- Slurm, through submitit ----------------------------------------------------------------------------------------


class SlurmTask:
    """What submitit pickles. Pre-empted or out of time, it asks its run for a checkpoint and is requeued; started
    again, it finds that run in the store and continues it."""

    def __init__(self, job: Job, parent_id: str | None, environment: dict[str, str], threads: int):
        self.job, self.parent_id, self.environment, self.threads = job, parent_id, environment, threads
        self.process: Any = None

    def __call__(self) -> int:
        os.environ.update(self.environment)
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        from reprod.jobs import plan
        from reprod.store import Store

        left = [self.job] if self.job.resume else plan.make([self.job.config], Store()).jobs
        if not left:
            return 0
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_slurm_body, args=(left[0], self.parent_id, self.threads))
        self.process.start()
        self.process.join()
        if self.process.exitcode != 0:
            raise RuntimeError(f"exit status {self.process.exitcode}; the job's log has the reason")
        return 0

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            os.kill(self.process.pid, signal.SIGUSR2)
            self.process.join(80)  # Slurm warns 90 seconds ahead
        self.process = None
        return DelayedSubmission(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process": None}


class ProjectTask(SlurmTask):
    """The same for a checkout that is not the one that runs here (`mlflow run -v VERSION`, another folder): its own
    entry point does the work, with its own code, for a run that MLflow made."""

    def __init__(self, folder: Path, entry_point: str, words: Sequence[str], run_id: str, options: Options):
        self.folder, self.entry_point, self.words, self.run_id = folder, entry_point, list(words), run_id
        self.environment, self.threads = task_environment(), options.cpus
        self.process: Any = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        """What to start, and in which environment: the run that MLflow made, or, requeued, what has become of it."""
        from reprod.store import Store

        begun = "reprod.config" in Store().get(self.run_id).tags
        words = ["--resume", self.run_id] if begun else self.words
        made = {} if begun else {"MLFLOW_RUN_ID": self.run_id}
        environment = {**os.environ, **self.environment, "PYTHONPATH": str(self.folder), **made}
        environment |= {"OMP_NUM_THREADS": str(self.threads)}
        return [sys.executable, "-m", f"entrypoints.{self.entry_point}", *words], environment

    def __call__(self) -> int:
        import subprocess

        os.environ.update(self.environment)
        words, environment = self.command()
        self.process = subprocess.Popen(words, cwd=self.folder, env=environment)
        if status := self.process.wait():
            raise RuntimeError(f"exit status {status}; the job's log has the reason")
        return 0

    def checkpoint(self) -> Any:
        import subprocess

        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            self.process.send_signal(signal.SIGUSR2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(80)
        self.process = None
        return DelayedSubmission(self)


def _slurm_body(job: Job, parent_id: str | None, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    os._exit(run_job(job, parent_id))


def slurm_executor(options: Options, folder: Path) -> Any:
    import shutil

    try:
        import submitit
    except ImportError as error:
        raise BadInput("--launcher slurm needs submitit: pip install 'reprod[slurm]'") from error
    if shutil.which("sbatch") is None:
        raise BadInput("--launcher slurm: there is no sbatch on PATH")
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=options.max_requeues, python=sys.executable)
    settings: dict[str, Any] = {
        "job_name": "reprod", "time": options.time_minutes, "mem": f"{int(options.mem_gb * 1024)}M",
        "cpus_per_task": options.cpus, "array_parallelism": max(options.workers, 1), "signal_delay_s": 90,
        **({"partition": options.partition} if options.partition else {}),
        **({"gpus_per_node": options.gpus} if options.gpus else {}), **options.extra,
    }  # fmt: skip
    executor.update_parameters(**settings)
    return executor


def task_environment() -> dict[str, str]:
    """What a task on another node must know: the store (an absolute path or a server), the data, the cache."""
    from reprod import data
    from reprod.store.connection import tracking_uri

    return {**_passed_on(), "MLFLOW_TRACKING_URI": tracking_uri(), "REPROD_DATA": str(data.folder())}


def _slurm(outcomes: Sequence[Outcome], options: Options, parent_id: str | None, _wait: float) -> None:
    assert outcomes[0].log is not None
    executor = slurm_executor(options, outcomes[0].log.parent)
    environment = task_environment()
    with executor.batch():  # one job array
        jobs = [executor.submit(SlurmTask(o.job, parent_id, environment, options.cpus)) for o in outcomes]
    for outcome, job in zip(outcomes, jobs, strict=True):
        outcome.state, outcome.began = "running", time.monotonic()
        outcome.log = Path(job.paths.stderr)
    with _stopping() as stop:
        while any(outcome.state == "running" for outcome in outcomes):
            for outcome, job in zip(outcomes, jobs, strict=True):
                if outcome.state == "running" and job.done(force_check=False):
                    _settle_slurm(outcome, job)
            if stop:
                for outcome, job in zip(outcomes, jobs, strict=True):
                    if outcome.state == "running":
                        job.cancel(check=False)
                        outcome.state, outcome.ended = "stopped", time.monotonic()
                raise Interrupted(stop[0])
            time.sleep(1.0)


def _settle_slurm(outcome: Outcome, job: Any) -> None:
    outcome.ended = time.monotonic()
    error = job.exception()
    outcome.state = "finished" if error is None else "failed"
    if error is not None:
        outcome.reason = _last_words(outcome.log) if outcome.log and outcome.log.exists() else str(error)[:300]


# -- what a person sees ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _showing(outcomes: Sequence[Outcome]) -> Iterator[None]:
    """A live table on a terminal; a line per change in a log."""
    done = threading.Event()
    shown = threading.Thread(target=_table if sys.stderr.isatty() else _lines, args=(outcomes, done), daemon=True)
    shown.start()
    try:
        yield
    finally:
        done.set()
        shown.join(5)


def _lines(outcomes: Sequence[Outcome], done: threading.Event) -> None:
    states = {id(outcome): "waiting" for outcome in outcomes}
    while True:
        last = done.wait(0.5)
        for outcome in outcomes:
            if outcome.state != states[id(outcome)]:
                states[id(outcome)] = outcome.state
                count = sum(o.state == "finished" for o in outcomes)
                words = f" ({outcome.reason})" if outcome.reason else ""
                seconds = f" after {outcome.seconds:.0f} s" if outcome.ended else ""
                print(
                    f"[{count}/{len(outcomes)}] {outcome.state}{seconds}: {outcome.job.title}{words}", file=sys.stderr
                )
        if last:
            return


def _table(outcomes: Sequence[Outcome], done: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    def table() -> Table:
        count = sum(o.state == "finished" for o in outcomes)
        view = Table(title=f"{count} of {len(outcomes)} finished", box=None, title_justify="left")
        for column in ("state", "time", "run", "last line"):
            view.add_column(column, no_wrap=True)
        order = {"running": 0, "failed": 1, "stopped": 2, "waiting": 3, "elsewhere": 3, "finished": 4}
        for outcome in sorted(outcomes, key=lambda o: order[o.state])[:20]:
            clock = f"{int(outcome.seconds) // 60}:{int(outcome.seconds) % 60:02d}" if outcome.began else ""
            words = _last_line(outcome.log) if outcome.state == "running" else outcome.reason
            view.add_row(outcome.state, clock, outcome.job.title, words)
        if len(outcomes) > 20:
            view.add_row("", "", f"and {len(outcomes) - 20} more", "")
        return view

    with Live(table(), console=Console(stderr=True), refresh_per_second=2) as live:
        while not done.wait(0.5):
            live.update(table())
        live.update(table())


def _last_line(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 400))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else ""


def summary(outcomes: Sequence[Outcome]) -> str:
    """The last words of a sweep: counts, and every failure with its reason and its log."""
    states = ("finished", "failed", "stopped", "waiting", "elsewhere")
    counts = {state: sum(o.state == state for o in outcomes) for state in states}
    lines = [", ".join(f"{count} {state}" for state, count in counts.items() if count)]
    for outcome in outcomes:
        if outcome.state == "elsewhere":
            lines.append(
                f"still with another process: {outcome.job.title} ({outcome.reason}); started again later, this "
                "command runs what is left; `reprod status` shows who is at it"
            )
        if outcome.state in ("failed", "stopped"):
            lines.append(f"{outcome.state}: {outcome.job.title}: {outcome.reason}\n    log: {outcome.log}")
    return "\n".join(lines)
