"""The file: a zip with the same bytes for the same runs.

    runs.json                 what runs there are: parameters, tags, last metrics, names and sha256 of their files
    ro-crate-metadata.json    the same for machines that know RO-Crate and nothing of reprod
    data/<sha256>.xz          a file of a run, compressed; one that several runs share is there once
    data/<sha256>.w4.xz       the same, its bytes shuffled before: all first bytes of its 4-byte words, all second, ...

A file's name is the sha256 of its content, and reading checks it. Short texts stand in `runs.json` itself. Metric
histories are one array for each run, a row for each point, in a `.npy` file like the others. There are no pickles apart
from the index inside torch's weight files, which is read by torch's restricted reader alone, and no checkpoints.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reprod.errors import BadInput
from reprod.store.files import write_whole

FORMAT = 1
LARGEST = 512 * 1024  # bytes of a file that no figure and no claim reads
BUDGET = 25_000_000  # bytes of an archive
TOGETHER = 80_000_000  # bytes of all
RULE = (
    "Whole and lossless: every file of a run that one of our figures or claims reads; parameters, tags and metric "
    f"histories. Also every other file of at most {LARGEST} bytes. Left out: larger files that no figure or claim "
    "reads (raw logits, long traces, big weights), each named under `left_out` with shape, type and sha256, and made "
    "again by the command of its run. Never: checkpoints, and models in MLflow's own format, which may be pickles."
)
INDEX, CRATE = "runs.json", "ro-crate-metadata.json"
POINT = np.dtype([("metric", "<u2"), ("step", "<i8"), ("time", "<i8"), ("value", "<f8")])
_MEMBER = re.compile(r"data/([0-9a-f]{64})(?:\.w(\d{1,3}))?\.xz")
_ID = re.compile(r"[0-9a-f]{32}")
_SUM = re.compile(r"[0-9a-f]{64}")


# -- one file ---------------------------------------------------------------------------------------------------------


def word_size(name: str, content: bytes) -> int:
    """Bytes of the numbers that a file holds."""
    if content[:6] == b"\x93NUMPY":
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return max(1, min(read(file)[2].itemsize, 999))
    return 4 if name.endswith(".pt") else 1


def pack(name: str, content: bytes) -> tuple[str, bytes]:
    """The member that holds a file: its name, its bytes."""
    width = word_size(name, content)
    packed = lzma.compress(_shuffled(content, width), lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=_filters(len(content)))
    return f"data/{digest_of(content)}{f'.w{width}' if width > 1 else ''}.xz", packed


def unpack(member: str, packed: bytes, largest: int) -> bytes:
    """The content of a member; at most `largest` bytes are unpacked. Raises `ValueError`."""
    found = _MEMBER.fullmatch(member)
    if found is None:
        raise ValueError("no file of a run")
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 * 1024 * 1024)
    try:
        content = reader.decompress(packed, largest + 1)
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise ValueError(str(error)) from error
    content = _unshuffled(content, int(found[2] or 1))
    if not reader.eof or digest_of(content) != found[1]:
        raise ValueError("its sha256 is another")
    return content


def _filters(size: int) -> list[dict[str, int]]:
    """A dictionary no larger than the file: thousands of small ones need no megabytes each."""
    return [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": min(max(4096, 1 << size.bit_length()), 1 << 23)}]


def _shuffled(content: bytes, width: int) -> bytes:
    whole = len(content) // width * width
    return np.frombuffer(content[:whole], np.uint8).reshape(-1, width).T.tobytes() + content[whole:]


def _unshuffled(content: bytes, width: int) -> bytes:
    whole = len(content) // width * width
    return np.frombuffer(content[:whole], np.uint8).reshape(width, -1).T.tobytes() + content[whole:]


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def as_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def number(value: float) -> float | str:
    """JSON has no infinity and no NaN: they are words."""
    return value if math.isfinite(value) else str(value)


# -- the whole file ---------------------------------------------------------------------------------------------------


class Archive:
    """An archive that is there. Raises `BadInput`, one sentence, for whatever is not what `write` made."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise BadInput(f"there is no archive {path}") from None
        except (zipfile.BadZipFile, OSError) as error:
            raise self.bad(f"no archive, or a damaged or truncated one ({error})") from None
        names = self._zip.namelist()
        if INDEX not in names:
            raise self.bad(f"an archive of something else: it has no {INDEX}")
        try:
            index = json.loads(self._zip.read(INDEX))
        except (ValueError, zipfile.BadZipFile, OSError, EOFError) as error:
            raise self.bad(f"damaged: {INDEX} cannot be read ({error})") from None
        if not isinstance(index, dict) or not isinstance(index.get("format"), int):
            raise self.bad(f"an archive of something else: {INDEX} names no format")
        if index["format"] > FORMAT:
            raise self.bad(f"of format {index['format']}, newer than this reprod reads ({FORMAT}): update reprod")
        self._members = {}
        for name in names:
            if found := _MEMBER.fullmatch(name):
                self._members[found[1]] = name
            elif name not in (INDEX, CRATE):
                raise self.bad(f"no archive of ours: it holds {name!r}")
        self.index = index
        try:
            self.runs: dict[str, dict[str, Any]] = {run["id"]: run for run in index["runs"]}
            for run in self.runs.values():
                self._check(run)
        except (KeyError, TypeError, AttributeError) as error:
            raise self.bad(f"damaged: {INDEX} is not what it must be ({error!r})") from None

    def bad(self, what: str) -> BadInput:
        return BadInput(f"{self.path}: this is {what}")

    def _check(self, run: Mapping[str, Any]) -> None:
        if not _ID.fullmatch(run["id"]):
            raise self.bad(f"not safe: it names a run {run['id']!r}")
        for path, file in {**run["files"], **run["left_out"]}.items():
            if not safe(path):
                raise self.bad(f"not safe: run {run['id']} has a file {path!r}, outside the folder of the run")
            if "text" in file:
                continue
            if not _SUM.fullmatch(file["sha256"]) or (path in run["files"] and file["sha256"] not in self._members):
                raise self.bad(f"damaged: {path} of run {run['id']} is not in it")
        if run["history"] and run["history"]["sha256"] not in self._members:
            raise self.bad(f"damaged: the metrics of run {run['id']} are not in it")

    @cached_property
    def shown(self) -> Mapping[str, list[str]]:
        """By run: the figures that it is in, as the tag `reprod.figures` has them."""
        shown: dict[str, list[str]] = defaultdict(list)
        for figure in self.figures:
            for run_id in figure["runs"]:
                shown[run_id].append(f"{figure['figure']} ({figure['scale']})")
        return shown

    @property
    def paper(self) -> str:
        return self.index["paper"]

    @property
    def figures(self) -> list[dict[str, Any]]:
        """`figure`, `scale`, `runs`: what can be drawn from it, and from which runs."""
        return self.index["figures"]

    @cached_property
    def sha256(self) -> str:
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def content(self, file: Mapping[str, Any]) -> bytes:
        """The content of a file of a run, checked. Raises `BadInput`."""
        if "text" in file:
            return file["text"].encode()
        member = self._members[file["sha256"]]
        try:
            return unpack(member, self._zip.read(member), file["size"])
        except (ValueError, zipfile.BadZipFile, OSError, EOFError) as error:
            raise self.bad(f"damaged: {member} cannot be read ({error})") from None

    def history(self, run: Mapping[str, Any]) -> np.ndarray:
        """Every point of every metric of a run, as `POINT`s."""
        if not run["history"]:
            return np.empty(0, POINT)
        try:
            points = np.load(io.BytesIO(self.content(run["history"])), allow_pickle=False)
        except ValueError as error:
            raise self.bad(f"damaged: the metrics of run {run['id']} cannot be read ({error})") from None
        if points.dtype != POINT or (len(points) and points["metric"].max() >= len(run["history"]["metrics"])):
            raise self.bad(f"damaged: the metrics of run {run['id']} are not what they must be")
        return points

    def packed(self) -> dict[str, Callable[[], tuple[str, bytes]]]:
        """By sha256: a function that gives a member as it is, so that a new archive takes it over."""

        def taken(member: str) -> Callable[[], tuple[str, bytes]]:
            return lambda: (member, self._zip.read(member))

        return {digest: taken(member) for digest, member in self._members.items()}

    def size(self, digest: str) -> int:
        """Packed bytes of a file."""
        return self._zip.getinfo(self._members[digest]).compress_size


def safe(path: str) -> bool:
    """Whether a name stays inside its folder, on any system."""
    parts = path.split("/")
    return bool(path) and not any(p in ("", ".", "..") or "\\" in p or ":" in p or "\0" in p for p in parts)


def needed(runs: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The sha256 of every file that these runs have as a member."""
    found = {file["sha256"] for run in runs.values() for file in run["files"].values() if "text" not in file}
    return found | {run["history"]["sha256"] for run in runs.values() if run["history"]}


def write(
    path: Path,
    index: Mapping[str, Any],
    members: Mapping[str, Callable[[], tuple[str, bytes]]],
    crate: Mapping[str, Any],
) -> None:
    """Write an archive. `members` gives each needed file by its sha256."""

    def compose(file: Any) -> None:
        with zipfile.ZipFile(file, "w") as made:
            _put(made, CRATE, _json(crate), zipfile.ZIP_DEFLATED)
            _put(made, INDEX, _json(index), zipfile.ZIP_DEFLATED)
            for digest in sorted(members):
                _put(made, *members[digest](), zipfile.ZIP_STORED)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, compose)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _put(made: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr, entry.compress_type = 3, 0o644 << 16, method
    made.writestr(entry, content, compresslevel=9)
