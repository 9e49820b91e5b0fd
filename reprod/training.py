"""The loop that every training shares: checkpoint, resume, progress, divergence, and signals that stop it cleanly."""

from __future__ import annotations

import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from reprod.errors import Diverged, Interrupted

if TYPE_CHECKING:
    import torch

    from reprod.run import Run


# -- named random streams -----------------------------------------------------------------------------------------


def stream(seed: int, name: str) -> np.random.Generator:
    """An independent stream for one purpose ("init", "batches", "noise") of one seed."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))


def torch_stream(seed: int, name: str, device: str = "cpu") -> torch.Generator:
    """The same for torch: `torch.randn(..., generator=torch_stream(seed, "init"))`."""
    import torch

    return torch.Generator(device).manual_seed(int(stream(seed, name).integers(2**63)))


# -- state that a checkpoint holds --------------------------------------------------------------------------------


class State:
    """Everything that the next iteration depends on, by name: `State(model=m, optimizer=o, shuffle=g, history={...})`.

    Understood: objects with `state_dict`/`load_state_dict`, torch and numpy generators, tensors and arrays (restored
    in place), and dicts of such and of plain numbers, strings and lists (restored in place). `dump` is made of tensors
    and plain values alone, so that it loads with `weights_only=True`.
    """

    def __init__(self, **parts: Any):
        self.parts = parts

    def dump(self) -> dict[str, Any]:
        return {name: _dump(part) for name, part in self.parts.items()}

    def load(self, saved: Mapping[str, Any]) -> None:
        for name, part in self.parts.items():
            _load(part, saved[name])


def _dump(part: Any) -> Any:
    import torch

    if hasattr(part, "state_dict"):
        return _dump(part.state_dict())  # copies: a module's own state_dict changes with the module
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    if isinstance(part, torch.Tensor):
        return part.detach().clone()
    if isinstance(part, np.ndarray):
        return torch.from_numpy(part.copy())
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, dict):
        return {key: _dump(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(_dump(value) for value in part)
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    raise TypeError(f"a checkpoint cannot hold a {type(part).__name__}")


def _load(part: Any, saved: Any) -> None:
    import torch

    if hasattr(part, "load_state_dict"):
        part.load_state_dict(saved)
    elif isinstance(part, torch.Generator):
        part.set_state(saved)
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = saved
    elif isinstance(part, torch.Tensor):
        if not _same_kind(part, saved):
            raise ValueError(
                f"a tensor of {saved.dtype}{tuple(saved.shape)} for one of {part.dtype}{tuple(part.shape)}"
            )
        with torch.no_grad():
            part.copy_(saved)
    elif isinstance(part, np.ndarray):
        _load(torch.from_numpy(part), saved)
    elif isinstance(part, dict):
        for key, value in saved.items():
            if _in_place(part.get(key), value):
                _load(part[key], value)
            else:
                part[key] = value
    elif isinstance(part, list):
        part[:] = saved
    else:
        raise TypeError(f"a {type(part).__name__} cannot be restored in place: put it into a dict")


def _in_place(part: Any, saved: Any) -> bool:
    """Whether a dict's entry takes the saved value in place; a tensor that changed its type or shape is replaced."""
    import torch

    if isinstance(part, torch.Tensor):
        return _same_kind(part, saved)
    return isinstance(part, (torch.Generator, np.ndarray, np.random.Generator, dict, list)) or hasattr(
        part, "load_state_dict"
    )


def _same_kind(part: torch.Tensor, saved: torch.Tensor) -> bool:
    return part.dtype == saved.dtype and part.shape == saved.shape


# -- the loop -----------------------------------------------------------------------------------------------------


def loop(
    run: Run,
    total: int,
    state: State,
    *,
    every: int,
    healthy: Callable[[], bool] | None = None,
    status: Callable[[], str] | None = None,
) -> Iterator[int]:
    """Yield the iterations 1 ... total that remain, with a checkpoint every `every` and after the last one.

    Continues behind the newest readable checkpoint of a resumed run. `healthy()` is asked before each checkpoint, so
    that the newest one is always good: false raises `Diverged`. `status()` is a few words for the progress bar.
    SIGTERM, SIGINT, SIGHUP and SIGUSR2 are answered after the iteration at hand, by a checkpoint and `Interrupted`.
    """
    start = 0
    if (saved := run.restore()) is not None:
        start, parts = saved
        state.load(parts)
    with progress(run.config.experiment, total, start) as advance, signals.deferred():
        for iteration in range(start + 1, total + 1):
            yield iteration
            if iteration % every == 0 or iteration == total or signals.pending:
                if healthy is not None and not healthy():
                    raise Diverged(f"the training left the finite numbers before iteration {iteration}")
                run.save(iteration, state.dump())
                signals.raise_pending()
            advance(iteration, status)


STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2") if hasattr(signal, name)]


def aside(text: str) -> None:
    """A sentence from inside a signal handler, where `print` may not be used."""
    with suppress(OSError):
        os.write(2, f"\nreprod: {text}\n".encode())


def _without_terminal() -> None:
    """The terminal was closed: what is written to it from now on would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with suppress(OSError):
            if os.isatty(output) or not _writable(output):
                os.dup2(nowhere, output)
    os.close(nowhere)


def _writable(output: int) -> bool:
    try:
        os.write(output, b"")
    except OSError:
        return False
    return True


class _Signals:
    """Signals that ask the run to stop: answered at once, but inside `deferred()` at the next checkpoint. Another one
    after more than two seconds is answered at once (Slurm sends the same signal to a job's every process)."""

    def __init__(self) -> None:
        self.pending: int | None = None
        self.since = 0.0
        self.depth = 0

    def install(self) -> None:
        """Let the signals in `STOPPING` stop the run of this process with a checkpoint; one that is ignored (SIGHUP
        under nohup) stays so. Main thread only."""
        self.pending, self.depth = None, 0
        for signum in STOPPING:
            if signal.getsignal(signum) != signal.SIG_IGN:
                signal.signal(signum, self._receive)

    def _receive(self, signum: int, _frame: Any) -> None:
        if signum == getattr(signal, "SIGHUP", None):
            _without_terminal()
        if self.pending is None:
            self.pending, self.since = signum, time.monotonic()
            if self.depth:
                aside(
                    "stopping after the iteration at hand, with a checkpoint; the same again stops at once and loses "
                    "what came after the last checkpoint"
                )
        elif time.monotonic() - self.since < 2.0:
            return
        else:
            raise Interrupted(signum)
        if not self.depth:
            raise Interrupted(signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def raise_pending(self) -> None:
        if self.pending is not None:
            raise Interrupted(self.pending)


signals = _Signals()


# -- progress -----------------------------------------------------------------------------------------------------

LINE_EVERY = 30.0  # seconds between two lines in a log
SLOW = 0.5  # seconds; where the first iteration took longer, it is worth a line with the time left


@contextmanager
def progress(label: str, total: int, start: int = 0) -> Iterator[Callable[[int, Callable[[], str] | None], None]]:
    """A bar with rate and time left on a terminal; plain lines at intervals in a log."""
    if sys.stderr.isatty():
        with _bar(label, total, start) as advance:
            yield advance
        return
    began = shown = time.monotonic()
    print(f"{label}: {start} of {total} iterations done", file=sys.stderr, flush=True)

    def advance_line(done: int, status: Callable[[], str] | None = None) -> None:
        nonlocal shown
        now = time.monotonic()
        slow_first = done == start + 1 and now - began > SLOW
        if now - shown < LINE_EVERY and done < total and not slow_first:
            return
        shown = now
        rate = (done - start) / max(now - began, 1e-9)
        words = f"  {status()}" if status else ""
        share, left = f"{100 * done / total:.0f} %", _clock((total - done) / rate)
        print(f"{label}: {done}/{total} ({share}), {rate:.3g}/s, {left} left{words}", file=sys.stderr, flush=True)

    yield advance_line


@contextmanager
def _bar(label: str, total: int, start: int) -> Iterator[Callable[[int, Callable[[], str] | None], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TextColumn("{task.fields[left]}"), TextColumn("{task.fields[words]}"),
        console=Console(stderr=True), refresh_per_second=4,
    )  # fmt: skip
    with bar:
        task = bar.add_task(label, total=total, completed=start, rate="", left="", words="")
        began = shown = time.monotonic()

        def advance(done: int, status: Callable[[], str] | None = None) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < 0.2 and done < total and done > start + 1:
                return
            shown = now
            rate = (done - start) / max(now - began, 1e-9)
            left = f"{_clock((total - done) / rate)} left"
            bar.update(task, completed=done, rate=f"{rate:.3g}/s", left=left, words=status() if status else "")

        yield advance


def _clock(seconds: float) -> str:
    minutes, secs = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
