"""CIFAR-10 and MNIST through torchvision, whole and in memory; and images drawn in CIFAR-10's shape, for tests."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from reprod import data
from reprod.errors import BadInput
from reprod.training import stream

NAMES = ("cifar10", "mnist")


@dataclass(frozen=True)
class Images:
    """`pixels` uint8 (n, channels, height, width), `labels` int64 (n,)."""

    name: str
    split: str
    pixels: np.ndarray
    labels: np.ndarray
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int) -> Images:
        """The first n examples (the files of both sets are in random order already)."""
        return Images(self.name, self.split, self.pixels[:n], self.labels[:n], self.source)

    @property
    def digest(self) -> str:
        return data.digest(self.pixels, self.labels)


FILES = {  # where torchvision puts them, and their sha256: of CIFAR-10 those with its md5 sums, of MNIST unpacked
    "cifar10": ("cifar-10-batches-py", {
        "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    }),
    "mnist": ("MNIST/raw", {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }),
}  # fmt: skip


def faults(name: str, data_dir: str = "auto") -> dict[str, str]:
    """What is wrong with the files of a data set: file name -> "missing" or "damaged". Empty where all is well."""
    inside, sums = FILES[name]
    folder = data.folder(data_dir) / inside
    found = {}
    for file, wanted in sums.items():
        path = folder / file
        if not path.is_file():
            found[file] = "missing"
        elif _sha256(path, path.stat().st_mtime_ns) != wanted:
            found[file] = "damaged"
    return found


@cache
def _sha256(path: Path, _written: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _load(name: str, root: Path, train: bool) -> Images:
    from torchvision import datasets

    if name == "cifar10":
        found = datasets.CIFAR10(str(root), train=train)
        pixels = np.ascontiguousarray(found.data.transpose(0, 3, 1, 2))
    else:
        found = datasets.MNIST(str(root), train=train)
        pixels = found.data.numpy()[:, None]
    labels = np.asarray(found.targets, dtype=np.int64)
    return Images(name, "train" if train else "test", pixels, labels, f"torchvision {type(found).__name__}")


def load(name: str, split: str, data_dir: str = "auto") -> Images:
    """`split` is train or test. Raises `BadInput` for missing or damaged files; `ensure` asks earlier."""
    root = data.folder(data_dir)
    if wrong := faults(name, data_dir):
        raise BadInput(_complaint(name, root, wrong))
    return _load(name, root, split == "train")


def ensure(name: str, data_dir: str = "auto", *, download: bool = True, repair: bool = False) -> None:
    """Make sure that the files are there and whole, every byte of them. What is missing altogether is downloaded; with
    `repair` what is damaged, too, in its place. Raises `BadInput` where files are damaged, or cannot be had."""
    root = data.folder(data_dir)
    wrong = faults(name, data_dir)
    if not wrong:
        return
    nothing = set(wrong.values()) == {"missing"} and len(wrong) == len(FILES[name][1])
    if not (repair or (nothing and download)):
        raise BadInput(_complaint(name, root, wrong))
    print(f"reprod: downloading {name} into {root}", flush=True)
    try:
        _fetch(name, root, [file for file, state in wrong.items() if state == "damaged"])
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
        what = _complaint(name, root, wrong).partition(";")[0]
        raise BadInput(
            f"{what}; it could not be downloaded ({reason}): put its files there by hand, or let REPROD_DATA or "
            "-P data_dir=DIR name a folder that has them"
        ) from error
    if wrong := faults(name, data_dir):
        raise BadInput(f"{_complaint(name, root, wrong).partition(';')[0]}, although it was downloaded just now")


def synthetic(split: str, n: int, *, classes: int = 10) -> Images:
    """n images (3, 32, 32): a coarse random pattern for each class, plus noise. The same for every seed of a run.

    Labels are drawn evenly from the first `classes` of ten, which look the same whatever their number.
    """
    # The names of these streams are no paths, as names are elsewhere: they keep the images that runs have recorded.
    patterns = stream(0, "synthetic classes").uniform(60, 195, size=(10, 3, 4, 4))
    rng = stream(0, f"synthetic {split}")
    labels = rng.integers(0, classes, size=n)
    pixels = np.empty((n, 3, 32, 32), np.uint8)
    for first in range(0, n, 1000):  # noise in pieces: that of CIFAR-10's number of images would take gigabytes
        part = patterns[labels[first : first + 1000]].repeat(8, axis=2).repeat(8, axis=3)
        pixels[first : first + 1000] = (part + 40 * rng.standard_normal(part.shape)).clip(0, 255)
    return Images("synthetic", split, pixels, labels.astype(np.int64), "drawn: ten coarse patterns with noise")


def _fetch(name: str, root: Path, damaged: list[str]) -> None:
    """Let torchvision download; it takes any file that is there for a good one, so that damaged ones go first."""
    from torchvision import datasets

    root.mkdir(parents=True, exist_ok=True)
    for file in damaged:
        (root / FILES[name][0] / file).unlink()
    {"cifar10": datasets.CIFAR10, "mnist": datasets.MNIST}[name](str(root), download=True)


def _complaint(name: str, root: Path, wrong: dict[str, str]) -> str:
    inside, sums = FILES[name]
    if set(wrong.values()) == {"missing"} and len(wrong) == len(sums):
        state = "was not found"
    else:
        state = "is damaged or incomplete"
    files = ", ".join(f"{file} {what}" for file, what in list(wrong.items())[:3])
    where = "" if root == data.folder() else f" --data-dir {shlex.quote(str(root))}"
    return (
        f"{name} {state} in {root / inside} ({files}); `reprod data {name}{where}` fetches it anew, or let REPROD_DATA "
        "or -P data_dir=DIR name a folder that has it"
    )
