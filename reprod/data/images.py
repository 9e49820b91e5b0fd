"""CIFAR-10 and MNIST through torchvision, whole and in memory; and images drawn in CIFAR-10's shape, for tests."""

from __future__ import annotations

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
    try:
        return _load(name, root, split == "train")
    except Exception as error:
        raise BadInput(_complaint(name, root, error)) from error


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


def ensure(name: str, data_dir: str = "auto", *, download: bool = True) -> None:
    """Make sure that the files are there and whole, by download where they are missing. Raises `BadInput` otherwise.

    torchvision compares CIFAR-10 with its md5 sums; of MNIST's unpacked files the headers and lengths are checked.
    """
    from torchvision import datasets

    root = data.folder(data_dir)
    kind = {"cifar10": datasets.CIFAR10, "mnist": datasets.MNIST}[name]
    expected = root / ("cifar-10-batches-py" if name == "cifar10" else "MNIST/raw")
    try:
        if expected.exists() and any(expected.iterdir()):
            for train in (True, False):
                _load(name, root, train)
        elif download:
            print(f"reprod: downloading {name} into {root}", flush=True)
            root.mkdir(parents=True, exist_ok=True)
            kind(str(root), download=True)
        else:
            raise FileNotFoundError(expected)
    except Exception as error:
        raise BadInput(_complaint(name, root, error)) from error


def _complaint(name: str, root: Path, error: Exception) -> str:
    folder = root / ("cifar-10-batches-py" if name == "cifar10" else "MNIST/raw")
    state = "is damaged or incomplete" if folder.exists() else "was not found and could not be downloaded"
    reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
    return (
        f"{name} {state}: looked for {folder} ({reason}); `reprod data {name} --data-dir DIR` gets it, "
        "REPROD_DATA or -P data_dir=DIR names the folder"
    )
