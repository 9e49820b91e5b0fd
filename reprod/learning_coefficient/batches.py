"""Which rows of the data each chain sees at each step.

Per epoch one permutation, cut into contiguous blocks of m rows, the last partial one dropped (spec 1.2). Chain c starts
at a block of its own and goes round: each chain alone has exactly the law of a chain that shuffles for itself, while
the permutation, and whatever a potential derives from a block, is paid for once and not once per chain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprod.training import stream, torch_stream

ORDERS = ("shuffled", "fixed", "sequential")


@dataclass(frozen=True)
class Batches:
    """A stateless plan: the same for the same seed, whatever happened before, so that resuming needs no state.

    Args:
        num_data: rows of the data set, n.
        batch_size: m, at most n.
        order: "shuffled" draws a permutation per epoch, "fixed" cycles through one permutation, "sequential" through
            the rows as they come; in the last two all chains see the same blocks.
    """

    num_data: int
    batch_size: int
    seed: int
    order: str = "shuffled"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order={self.order!r} is not one of {', '.join(ORDERS)}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.batch_size > self.num_data:
            raise ValueError(f"batch_size={self.batch_size} is larger than the data set, {self.num_data} rows")

    @property
    def per_epoch(self) -> int:
        return self.num_data // self.batch_size

    def epoch(self, number: int) -> Tensor:
        """Row indices of every block of an epoch, (blocks, m)."""
        kept = self.per_epoch * self.batch_size
        if self.order == "sequential":
            rows = torch.arange(kept)
        else:
            name = f"batches/{number if self.order == 'shuffled' else 0}"
            rows = torch.randperm(self.num_data, generator=torch_stream(self.seed, name))[:kept]
        return rows.view(self.per_epoch, self.batch_size)

    def turns(self, chains: int) -> Tensor:
        """Block that each chain uses at each step of an epoch, (blocks, chains)."""
        steps = torch.arange(self.per_epoch)[:, None]
        if self.order != "shuffled":
            return steps.expand(-1, chains)
        first = [int(stream(self.seed, f"batches/chain/{c}").integers(self.per_epoch)) for c in range(chains)]
        return (steps + torch.tensor(first)) % self.per_epoch
