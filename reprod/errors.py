"""What can go wrong, as exceptions with an exit status each. Every message is one sentence for a person."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class BadInput(ValueError):
    """The user's mistake: named before anything is created. Exit status 2."""


class LeftOut(BadInput):
    """A file that an archive names with its sha256, and does not hold."""

    def __init__(self, sha256: str, sentence: str):
        self.sha256 = sha256
        super().__init__(sentence)


class Diverged(RuntimeError):
    """A training left the finite numbers; its last good checkpoint stays. Exit status 1."""


class Interrupted(BaseException):
    """A signal asked the run to stop; a checkpoint was written first. Exit status 128 + signal.

    Not an `Exception`, so that no experiment swallows it by accident (as with `KeyboardInterrupt`).
    """

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"stopped by {signal.Signals(signum).name}")


def nearest(word: str, words: Iterable[str]) -> str:
    """`"; did you mean tol?"`, or nothing where no word is near."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""
