"""What tracking costs a run: python benchmarks/tracking.py

The same training with a run in memory and with one that writes to a fresh SQLite store, in turn; then with a store that
takes a second for every message. Prints medians, and the share of a run's wall time that the tracking thread computes.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from reprod import registry, tracking
from reprod.config import resolve
from reprod.run import Run


def main() -> None:
    values = dict(word.split("=") for word in sys.argv[1:]) or {"scale": "small", "niter": "1500", "seeds": "0,1"}
    config = resolve(registry.config_class("sphere_ode"), values)
    function = registry.function("sphere_ode")
    os.environ["REPROD_CACHE"] = tempfile.mkdtemp()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(tempfile.mkdtemp())}/mlflow.db"
    tracking.connect()
    real = tracking.deliver

    def slow(client, message):
        time.sleep(1.0)
        real(client, message)

    def in_memory() -> tuple[float, float]:
        began = time.perf_counter()
        function(config, Run(config))
        return time.perf_counter() - began, 0.0

    def tracked() -> tuple[float, float]:
        run = tracking.open_run(config)
        began = time.perf_counter()
        function(config, run)
        computed = time.perf_counter() - began
        run.finish()
        run.close()
        return computed, run.outbox.busy_seconds

    def with_slow_store() -> tuple[float, float]:
        tracking.deliver = slow
        try:
            run = tracking.open_run(config)
            began = time.perf_counter()
            function(config, run)
            return time.perf_counter() - began, 0.0
        finally:
            tracking.deliver = real

    in_memory()  # compiles and warms up
    times: dict[str, list[tuple[float, float]]] = {"memory": [], "sqlite": [], "slow": []}
    for _ in range(3):
        times["memory"].append(in_memory())
        times["sqlite"].append(tracked())
        times["slow"].append(with_slow_store())
    memory, sqlite, slow_store = (statistics.median(t for t, _ in times[name]) for name in times)
    busy = statistics.median(b for _, b in times["sqlite"])
    print(f"{config.title()}, medians of 3")
    print(f"in memory              {memory:7.2f} s")
    print(f"SQLite store           {sqlite:7.2f} s   ({100 * (sqlite / memory - 1):+.1f} %)")
    print(f"store of 1 s a message {slow_store:7.2f} s   ({100 * (slow_store / memory - 1):+.1f} %)")
    print(f"tracking thread        {busy:7.2f} s of processor time, {100 * busy / sqlite:.1f} % of the run")


if __name__ == "__main__":
    main()
