"""Images that can't be read are named, all at once, in data workers too."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from PIL import Image

from mmkdlayer.engine.feature_stream import FeatureStream
from mmkdlayer.engine.streamed_images import StreamedImages, Unreadable, refuse_unreadable
from mmkdlayer.errors import DataError


class Numbers:
    """Numbers as images, but for some."""

    def __init__(self, length: int, errors: dict[int, Exception]) -> None:
        self.length, self.errors = length, errors

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        if index in self.errors:
            raise self.errors[index]
        return index


@pytest.mark.parametrize(('workers', 'ignore'), [(0, False), (1, False), (0, True)])
def test_files_that_are_no_images_are_named_and_counted(
    tmp_path: Path, workers: int, ignore: bool
) -> None:
    """With ``ignore_empty`` too, for which the host gives random other images."""
    for index in range(6):
        path = tmp_path / 'train' / 'cat' / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(path)
    (path.parent / '1.png').write_text('<html>')
    (path.parent / '4.png').write_bytes(b'')
    init_default_scope('mmpretrain')
    steps = [dict(type='LoadImageFromFile', ignore_empty=ignore), dict(type='PackInputs')]
    dataset = dict(
        type='CustomDataset', data_root=str(tmp_path), data_prefix='train', pipeline=steps
    )
    loader = ConfigDict(
        dataset=dict(type='RepeatDataset', times=1, dataset=dataset),
        batch_size=2,
        num_workers=workers,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    stream = FeatureStream(None, [], loader)
    stream.run_teachers = lambda batch: ({}, [], {})  # type: ignore[method-assign]
    words = r'can not be read: 2, namely \S+/train/cat/1\.png \(.*, \S+/4\.png \(.*\)\. Replace'
    with pytest.raises(DataError, match=words):
        list(stream)


def test_a_shortage_is_not_blamed_on_an_image() -> None:
    error = OSError(errno.EMFILE, 'Too many open files')
    images = StreamedImages(Numbers(3, {1: error, 2: MemoryError()}))
    assert images[0] == 0
    with pytest.raises(OSError, match='Too many'):
        images[1]
    with pytest.raises(MemoryError):
        images[2]


def test_many_unreadable_images_are_cut() -> None:
    batch = Unreadable((f'{index}.png', 'cut off') for index in range(30))
    with pytest.raises(DataError, match=r'100 or more, namely 0\.png .* and 115 more\.'):
        refuse_unreadable(batch, [batch, 'a good batch', batch, batch, batch])
    refuse_unreadable('a good batch', [batch])


@pytest.mark.parametrize(('most', 'expected'), [(None, 7), (9, 7), (3, 3)])
def test_evenly_spaced_items(most: int | None, expected: int) -> None:
    images = StreamedImages(Numbers(7, {}), most)
    items = [images[index] for index in range(len(images))]
    assert len(items) == expected
    assert items == ([0, 2, 4] if most == 3 else list(range(7)))
