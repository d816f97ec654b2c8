from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
import torch

from mmkdlayer.errors import ConfigError, DataError
from mmkdlayer.fitting import projected_features as module
from mmkdlayer.fitting.projected_features import ProjectionCache, make_folder


def write(directory, shapes):
    cache = ProjectionCache(3, directory / 'features', 0)
    generator = torch.Generator().manual_seed(0)
    written = []
    for images, positions in shapes:
        vectors = torch.randint(
            -(1 << 31), 1 << 31, (images, positions, 3), generator=generator
        ).int()
        labels = torch.randint(0, 9, (images,), generator=generator)
        cache.write(vectors, labels)
        written.append((vectors, labels))
    return cache, written


@pytest.mark.parametrize('block', [1, 10, 1000])
def test_what_is_read_is_what_was_written_each_time(tmp_path, monkeypatch, block):
    monkeypatch.setattr(module, '_BLOCK_POSITIONS', block)
    cache, written = write(tmp_path, [(5, 4), (1, 4), (7, 4), (2, 6)])
    for _ in range(2):
        blocks = list(cache.blocks())
        assert len(blocks) == len(cache)
        for index in range(2):
            read = torch.cat([part[index].flatten() for part in blocks])
            assert torch.equal(read, torch.cat([part[index].flatten() for part in written]))
    cache.close()


def test_a_changed_file_is_noticed(tmp_path):
    cache, _ = write(tmp_path, [(5, 4)])
    assert len(cache) == 1
    cache._file.seek(11)
    cache._file.write(b'?')
    with pytest.raises(DataError, match='checksum'):
        list(cache.blocks())
    cache.close()


def test_a_disk_that_is_too_small_is_refused_before_writing(tmp_path, monkeypatch):
    usage = namedtuple('usage', 'total used free')(1 << 40, 0, 3 << 30)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(ConfigError, match=r'4\.00 GiB.*but 3\.00 GiB'):
        ProjectionCache(3, tmp_path / 'features', 4 << 30)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='nowhere'):
        make_folder(str(tmp_path / 'nowhere'))
