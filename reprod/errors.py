"""What can go wrong, as exceptions with an exit status each. Every message is one sentence for a person."""

from __future__ import annotations

import difflib
import re
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
        self.advice = ""  # how to go on, for the last words
        super().__init__(f"stopped by {signal.Signals(signum).name}")


def nearest(word: str, words: Iterable[str]) -> str:
    """`"; did you mean tol?"`, or nothing where no word is near."""
    names = list(words)
    short = [
        name for name in names if min(len(name), len(word)) > 2 and (name.startswith(word) or word.startswith(name))
    ]
    found = sorted(short, key=len, reverse=True) or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


_SECRETS = re.compile(
    r"(://)[^\s'\"`<>]*@|(?<=[?&;])((?:password|passwd|pwd|token|secret|key)=)[^\s&;'\"]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """The text without user and password of the URIs in it: the one way in which a URI is shown or kept."""
    return _SECRETS.sub(lambda m: "://***@" if m[1] else f"{m[2]}***", text)
