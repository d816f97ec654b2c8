"""Resuming in the middle of a data loader."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, Sampler


@contextmanager
def without_first_batches(loader: DataLoader, batches: int) -> Iterator[Iterator[Any]]:
    """The batches of a loader but the first ones, which are not loaded where that can be avoided."""
    batch_sampler = loader.batch_sampler
    if type(batch_sampler) is not BatchSampler:
        yield islice(iter(loader), batches, None)
        return
    sampler = batch_sampler.sampler
    batch_sampler.sampler = _Rest(sampler, batches * batch_sampler.batch_size)  # type: ignore
    try:
        yield iter(loader)
    finally:
        batch_sampler.sampler = sampler


class _Rest(Sampler):
    """What a sampler gives after its first items; its length stays that of the whole."""

    def __init__(self, sampler: Sized, first: int) -> None:
        self.sampler = sampler
        self.first = first

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.sampler), self.first, None)  # type: ignore[call-overload]

    def __len__(self) -> int:
        return len(self.sampler)
