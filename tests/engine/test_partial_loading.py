"""Resuming in the middle of a data loader."""

from __future__ import annotations

import pytest
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, DataLoader

from mmkdlayer.engine.partial_loading import without_first_batches


class OtherBatchSampler(BatchSampler):
    """A batch sampler of a user's own."""


@pytest.mark.parametrize('kind', [BatchSampler, OtherBatchSampler])
@pytest.mark.parametrize(
    ('workers', 'persistent'), [(0, False), (1, True)], ids=['alone', 'worker']
)
def test_rest_of_an_epoch(kind: type[BatchSampler], workers: int, persistent: bool) -> None:
    sampler = DefaultSampler(range(11), shuffle=True, seed=3)
    batches = kind(sampler, 2, drop_last=False)
    loader = DataLoader(
        list(range(11)),
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=persistent,
        collate_fn=list,
    )
    for epoch, done in enumerate((0, 2, 5)):
        sampler.set_epoch(epoch)
        whole = list(loader)
        with without_first_batches(loader, done) as rest:
            assert len(loader) == 6
            assert list(rest) == whole[done:]
        assert list(loader) == whole
