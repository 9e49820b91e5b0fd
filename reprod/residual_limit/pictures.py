"""Images for the convolutional network: CIFAR-10, or ten drawn classes of its shape; normalisation, augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

from reprod.data import images
from reprod.training import torch_stream

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


def load(dataset: str, split: str, data_dir: str, first: int | None) -> images.Images:
    """The first so many images (all, for None)."""
    if dataset == "synthetic":
        return images.synthetic(split, first or {"train": 50_000, "test": 10_000}[split])
    found = images.load(dataset, split, data_dir)
    return found if first is None else found.first(first)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (n, 3, 32, 32) -> float32, each channel centred and scaled as CIFAR-10's."""
    mean, std = (torch.tensor(v, device=pixels.device).view(3, 1, 1) for v in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


class Epoch:
    """Order, crops and flips of one epoch: a pure function of seed and epoch, so that a resumed run finds it again."""

    def __init__(self, seed: int, epoch: int, n: int):
        generator = torch_stream(seed, f"epoch/{epoch}")
        self.order = torch.randperm(n, generator=generator)
        self.crop = torch.randint(0, 9, (n, 2), generator=generator)
        self.flip = torch.rand(n, generator=generator) < 0.5

    def batch(self, pixels: Tensor, first: int, size: int) -> tuple[Tensor, Tensor]:
        """Augmented pixels and indices of a batch: zero padding by 4, a 32 x 32 crop, a flip for half of them.

        Padding comes before the normalisation, so that the border is black, as with torchvision's transforms.
        """
        index = self.order[first : first + size]
        padded = torch.nn.functional.pad(pixels[index], (4, 4, 4, 4))
        rows = torch.arange(32)
        y = (self.crop[index, 0, None] + rows)[:, None, :, None]
        x = self.crop[index, 1, None] + rows
        x = torch.where(self.flip[index, None], x.flip(1), x)[:, None, None, :]
        each, channel = torch.arange(len(index))[:, None, None, None], torch.arange(3)[None, :, None, None]
        return padded[each, channel, y, x], index
