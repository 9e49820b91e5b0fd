"""What tests run in other processes. Forked from a server that has imported this module once, so they start at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from typing import Any

from reprod.jobs import launch
from reprod.store import connection, outbox, writer
from tests.core.toy import INSTALLED, Toy

sys.path.insert(0, str(INSTALLED))


def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "tests.workers"])
    return context


def open_store(uri: str, barrier: Any, results: Any) -> None:
    """Open a store at the same moment as others, and make a run in it."""
    try:
        barrier.wait(60)
        client = connection.connect(uri)
        run = client.create_run(connection.experiment_id(client, "together"))
        results.put(run.info.run_id)
    except BaseException as error:
        results.put(error)


def write_metrics(environment: dict[str, str], count: int) -> None:
    """A run with five metrics of `count` points each."""
    os.environ.update(environment)
    run = writer.open_run(Toy())
    with writer.recording(run):
        for step in range(count):
            run.log(step, {f"m{i}": float(step) for i in range(5)})


def die_at_first_checkpoint(config: Any, environment: dict[str, str]) -> None:
    """Run an experiment up to its first checkpoint, then SIGKILL."""
    os.environ.update(environment)
    outbox.Outbox.INTERVAL = 0.05
    save = writer.MlflowRun.save

    def save_and_die(run: Any, iteration: int, state: Any) -> None:
        save(run, iteration, state)
        os.kill(os.getpid(), signal.SIGKILL)

    writer.MlflowRun.save = save_and_die  # type: ignore[method-assign]
    launch.execute(config)
