"""The stream of teacher features, from any batch on."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict

from mmkdlayer.engine.feature_stream import FeatureStream


class CountedImages(torch.utils.data.Dataset):
    """Numbers as images; remembers which have been read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        self.read.append(index)
        return index


@pytest.mark.parametrize('done', [0, 1, 3])
def test_a_later_start_gives_the_rest_without_reading_the_beginning(done: int) -> None:
    images = CountedImages()
    sampler, collate = dict(type='DefaultSampler', shuffle=False), dict(type='default_collate')
    loader = ConfigDict(dataset=images, batch_size=3, sampler=sampler, collate_fn=collate)
    stream = FeatureStream(None, [], loader)
    # The teacher is not what this is about.
    stream.run_teachers = lambda batch: (batch.tolist(), [], {})
    seen = [batch for batch, _ in stream.starting_at(done)]
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]][done:]
    assert stream.dataset.read == list(range(3 * done, 10))
    assert [batch for batch, _ in stream] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
