"""The stream of teacher features, from any batch on."""

from __future__ import annotations

from pathlib import Path

import made_up_data  # noqa: F401  (registers MadeUpCIFAR100)
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from PIL import Image

from mmkdlayer.engine.feature_stream import FeatureStream
from mmkdlayer.pipelines import fitting_dataloader_cfg


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


def test_arrays_to_train_on_and_files_to_validate_on(tmp_path: Path) -> None:
    """Each is loaded in its own way, where one transform was KeyError: 'img_path' before."""
    init_default_scope('mmpretrain')
    (tmp_path / 'val' / 'cat').mkdir(parents=True)
    Image.new('L', (40, 40)).save(tmp_path / 'val' / 'cat' / '0.png')
    gray = dict(type='LoadImageFromFile', color_type='grayscale')
    resize, pack = dict(type='Resize', scale=8), dict(type='PackInputs')
    arrays = dict(
        type='MadeUpCIFAR100', data_root='x', pipeline=[dict(type='RandomFlip', prob=0.5), pack]
    )
    files = dict(
        type='CustomDataset', data_root=str(tmp_path / 'val'), pipeline=[gray, resize, pack]
    )
    rgb = dict(files, pipeline=[dict(type='LoadImageFromFile'), pack])
    for train, val, shape in (
        (arrays, files, (3, 8, 8)),
        (files, arrays, (1, 40, 40)),
        (rgb, files, (3, 8, 8)),
    ):
        loaders = dict(train_dataloader=dict(dataset=train), val_dataloader=dict(dataset=val))
        stream = FeatureStream(None, [], fitting_dataloader_cfg(ConfigDict(loaders)))
        assert tuple(stream.images[0]['inputs'].shape) == shape
