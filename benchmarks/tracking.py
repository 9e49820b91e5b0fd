"""What tracking costs a run: python benchmarks/tracking.py

The same training with a run in memory, with one that writes to a fresh SQLite store, and with a store that takes a
second for every message, in turn. Prints medians of processor time (of the whole process, tracking thread included),
which does not depend on what else the machine does, and the longest time that a call of `log` had to wait.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from reprod import papers
from reprod.config import resolve
from reprod.run import Run
from reprod.store import connection, outbox, writer


def main() -> None:
    values = dict(word.split("=") for word in sys.argv[1:]) or {"scale": "small", "seeds": "0,1"}
    config = resolve(papers.config_class("sphere_ode"), values)
    function = papers.function("sphere_ode")
    os.environ["REPROD_CACHE"] = tempfile.mkdtemp()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(tempfile.mkdtemp())}/mlflow.db"
    connection.connect()
    real = outbox.deliver

    def slow(client, message):
        time.sleep(1.0)
        real(client, message)

    def in_memory() -> tuple[float, float]:
        began = time.process_time()
        function(config, Run(config))
        return time.process_time() - began, 0.0

    def tracked() -> tuple[float, float]:
        began = time.process_time()
        run = writer.open_run(config)
        waited = [0.0]
        watch(run, waited)
        function(config, run)
        run.finish()
        run.close()
        return time.process_time() - began, waited[0]

    def with_slow_store() -> tuple[float, float]:
        outbox.deliver = slow
        os.environ["REPROD_PATIENCE"] = "0"
        try:
            return tracked()
        finally:
            outbox.deliver = real
            del os.environ["REPROD_PATIENCE"]

    in_memory()  # compiles and warms up
    times: dict[str, list[tuple[float, float]]] = {"memory": [], "sqlite": [], "slow": []}
    for _ in range(3):
        times["memory"].append(in_memory())
        times["sqlite"].append(tracked())
        times["slow"].append(with_slow_store())
    memory, sqlite, slow_store = (statistics.median(t for t, _ in times[name]) for name in times)
    print(f"{config.title()}, processor seconds, medians of 3")
    print(f"in memory              {memory:7.2f}")
    print(f"SQLite store           {sqlite:7.2f}   ({sqlite - memory:+.2f} s, {100 * (sqlite / memory - 1):+.1f} %)")
    print(f"store of 1 s a message {slow_store:7.2f}   ({slow_store - memory:+.2f} s)")
    for name in ("sqlite", "slow"):
        print(f"longest wait of `log`  {1e3 * max(w for _, w in times[name]):7.2f} ms with the {name} store")


def watch(run: writer.MlflowRun, longest: list[float]) -> None:
    """Time every `log` of the run and its children."""
    for each in (run, *run.children()):
        log = each.log

        def timed(step, values, log=log):
            began = time.perf_counter()
            log(step, values)
            longest[0] = max(longest[0], time.perf_counter() - began)

        each.log = timed  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
