"""A training loop by epochs that can go on within an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from itertools import islice
from typing import Any

from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader, Sampler

from mmkdlayer.registry import LOOPS


class _Rest(Sampler):
    """What a sampler gives after its first items; its length stays that of the whole."""

    def __init__(self, sampler: Sized, first: int) -> None:
        self.sampler = sampler
        self.first = first

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.sampler), self.first, None)  # type: ignore[call-overload]

    def __len__(self) -> int:
        return len(self.sampler)


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


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's EpochBasedTrainLoop; the epoch that it is resumed in starts after ``batches_done``.

    The sampler gives the same order again (it is seeded by the epoch), so that each image is seen once
    in the epoch; random augmentations are drawn anew.
    """

    #: Batches of the next epoch that were trained on before the interruption.
    batches_done = 0

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        done, self.batches_done = self.batches_done, 0
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        with without_first_batches(self.dataloader, done) as batches:
            for index, batch in enumerate(batches, start=done):
                self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
