from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
import torch

from mmkdlayer.errors import ConfigError, DataError, ResourceError, SavedStateError
from mmkdlayer.fitting import projected_features as module
from mmkdlayer.fitting.projected_features import ProjectedFeatures, make_folder


def test_stored_offsets_are_the_rounded_projection(tmp_path):
    generator = torch.Generator().manual_seed(0)
    means = torch.full((2, 3), 1e4).double()
    projected = ProjectedFeatures(torch.eye(3), torch.ones(3), means, tmp_path / 'features')
    features = 1e4 + torch.randn(4, 2, 3, generator=generator)
    labels = torch.tensor([0, 1, 1, 0])
    z = means[labels][:, None] + projected.project(features, labels).double() * module.STEP
    assert (z - features.double() - 1).abs().max() <= 2.0**-24
    far = projected.project(features * 1e6, labels).double() * module.STEP
    assert torch.equal(far, torch.full_like(far, 256 - 2.0**-23))


def test_stored_offsets_do_not_depend_on_the_shape_of_the_batch(tmp_path):
    generator = torch.Generator().manual_seed(0)
    projected = ProjectedFeatures(
        torch.randn(30, 64, generator=generator),
        torch.randn(30, generator=generator),
        torch.randn(2, 30, generator=generator).double(),
        tmp_path / 'features',
    )
    features = torch.randn(400, 9, 64, generator=generator)
    labels = torch.randint(0, 2, (400,), generator=generator)
    whole = projected.project(features, labels)
    for size in (1, 7):
        parts = zip(features.split(size), labels.split(size))
        assert torch.equal(torch.cat([projected.project(*part) for part in parts]), whole)
    z = torch.einsum('bpd,ld->bpl', features.double(), projected.projection.double())
    expected = z + projected.offset.double() - projected.means[labels][:, None]
    assert torch.equal(whole, (expected * 2.0**23).round().int())


def make(path, positions=0):
    """Features of three channels that are stored as they are."""
    means = torch.zeros(9, 3, dtype=torch.float64)
    return ProjectedFeatures(torch.eye(3), torch.zeros(3), means, path, positions)


def write(path, shapes):
    projected = make(path)
    generator = torch.Generator().manual_seed(0)
    written = []
    for images, positions in shapes:
        features = torch.randn(images, positions, 3, generator=generator)
        labels = torch.randint(0, 9, (images,), generator=generator)
        written.append((projected.write(features, labels), labels))
    return projected, written


@pytest.mark.parametrize('block', [1, 10, 1000])
def test_what_is_read_is_what_was_written_each_time(tmp_path, monkeypatch, block):
    monkeypatch.setattr(module, '_BLOCK_POSITIONS', block)
    projected, written = write(tmp_path / 'features', [(5, 4), (1, 4), (0, 4), (7, 4), (2, 6)])
    for _ in range(2):
        blocks = list(projected.blocks())
        assert len(blocks) == len(projected)
        for index in range(2):
            read = torch.cat([part[index].flatten() for part in blocks])
            assert torch.equal(read, torch.cat([part[index].flatten() for part in written]))
    projected.close()


def test_a_changed_file_is_noticed(tmp_path):
    projected, _ = write(tmp_path / 'features', [(5, 4)])
    assert len(projected) == 1
    projected._file.seek(11)
    projected._file.write(b'?')
    with pytest.raises(DataError, match='checksum'):
        list(projected.blocks())
    projected.close()


def test_a_disk_that_is_too_small_is_refused_before_writing(tmp_path, monkeypatch):
    usage = namedtuple('usage', 'total used free')(1 << 40, 0, 3 << 30)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    # The reserve is part of what is needed: not "needs 4.00 GiB, but 4.05 GiB are free".
    needed = r'needs 4\.06 GiB .*4\.00 GiB for .* 64\.0 MiB in reserve.*but 3\.00 GiB'
    with pytest.raises(ResourceError, match=needed):
        make(tmp_path / 'features', (4 << 30) // 16)
    usage = usage._replace(free=50 << 20)
    with pytest.raises(ResourceError, match=r'needs 64\.0 MiB .*160 bytes for .*but 50\.0 MiB'):
        make(tmp_path / 'features', 10)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='nowhere'):
        make_folder(str(tmp_path / 'nowhere'))


def test_no_link_is_followed(tmp_path):
    victim = tmp_path / 'victim.txt'
    victim.write_text('kept')
    (tmp_path / 'features').symlink_to(victim)
    with pytest.raises(SavedStateError, match='can not be opened'):
        make(tmp_path / 'features')
    assert victim.read_text() == 'kept'


def test_a_folder_in_the_place_of_the_file_is_damage(tmp_path):
    (tmp_path / 'features').mkdir()
    with pytest.raises(SavedStateError, match='can not be opened'):
        make(tmp_path / 'features')


def test_a_full_disk_is_named_with_the_file(tmp_path):
    """Linux's /dev/full is a disk that is always full."""
    projected = make(tmp_path / 'features')
    projected._file = open('/dev/full', 'wb')  # noqa: SIM115
    with pytest.raises(
        ResourceError, match=r'/features could not be written \(.* free in .*cache_dir'
    ):
        projected.write(torch.ones(3000, 4, 3), torch.zeros(3000, dtype=torch.int64))
    projected.close()
