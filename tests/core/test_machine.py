"""Work shared out over threads."""

from __future__ import annotations

import threading
import time

import pytest

from reprod.machine import share


def test_every_item_is_done_once_and_in_order():
    assert share(lambda i: i * i, 7, threads=3) == [0, 1, 4, 9, 16, 25, 36]
    assert share(lambda i: i, 0, threads=3) == []
    assert share(lambda i: i, 2, threads=8) == [0, 1]


def test_the_pieces_run_at_the_same_time():
    together = threading.Barrier(3, timeout=10)
    share(lambda i: together.wait(), 3, threads=3)


def test_an_exception_stops_the_other_pieces():
    done: list[int] = []

    def work(i: int) -> None:
        if i == 0:
            raise KeyboardInterrupt
        time.sleep(0.02)
        done.append(i)

    with pytest.raises(KeyboardInterrupt):
        share(work, 200, threads=2)
    time.sleep(0.1)
    assert len(done) < 20
