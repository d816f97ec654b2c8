"""Which checkpoint a training is resumed from."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.resuming import find_checkpoint, named_checkpoint
from mmkdlayer.errors import CheckpointError


def save(path: Path, age: int = 0, **changes: Any) -> Path:
    """A checkpoint that can be resumed from, written ``age`` seconds ago."""
    hub: dict = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    content = dict(state_dict={}, meta=dict(epoch=1, iter=8), message_hub=hub, optimizer={})
    path.parent.mkdir(exist_ok=True)
    torch.save(dict(content, **changes), path)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Two epochs, the last of which is damaged; a best one, a partial one and a teacher's."""
    save(tmp_path / 'epoch_1.pth', age=30)
    save(tmp_path / 'epoch_2.pth', age=20).write_bytes(b'PK half')
    save(tmp_path / 'best_acc_epoch_2.pth', age=10).touch()
    torch.save(dict(state_dict={}), tmp_path / 'teacher.pth')
    save(tmp_path / 'iter_12.pth', state_dict=dict(weight=torch.tensor([math.nan])))
    save(tmp_path / '.epoch_3.partial-12345678.pth')
    return tmp_path


def test_the_named_one(work: Path) -> None:
    (work / 'last_checkpoint').write_text(f'{work / "epoch_1.pth"}\n')
    assert find_checkpoint(work) == (str(work / 'epoch_1.pth'), '')


def test_a_copy_of_a_work_dir_has_its_own(work: Path, tmp_path: Path) -> None:
    elsewhere, apart = tmp_path / 'elsewhere', tmp_path / 'apart'
    for folder in (elsewhere, apart):
        folder.mkdir()
        (folder / 'epoch_1.pth').write_bytes((work / 'epoch_1.pth').read_bytes())
    (work / 'last_checkpoint').write_text(str(elsewhere / 'epoch_1.pth'))
    assert find_checkpoint(work) == (str(work / 'epoch_1.pth'), '')
    # Where checkpoints are kept apart, one that is named there is meant, not an older one here.
    (work / 'last_checkpoint').write_text(str(apart / 'epoch_1.pth'))
    assert find_checkpoint(work, [apart]) == (str(apart / 'epoch_1.pth'), '')


@pytest.mark.parametrize(
    ('name', 'problem'),
    [
        (b'', 'last_checkpoint is empty, or holds no path'),
        (b' \n', 'last_checkpoint is empty, or holds no path'),
        (b'\xff\xfe\x00', 'last_checkpoint is empty, or holds no path'),
        (b'\xff\xfe', 'no such file'),
        (b'a\0b', 'last_checkpoint is empty, or holds no path'),
        (b'x' * 5000, 'last_checkpoint is empty, or holds no path'),
        (b'{}/epoch_9.pth', 'no such file'),
        (b'{}/epoch_2.pth', 'is damaged'),
        (b'{}/teacher.pth', 'holds no meta'),
        (b'{}/iter_12.pth', 'weight holds NaN'),
        (None, 'there is no last_checkpoint'),
    ],
)
def test_the_newest_that_can_be_used(work: Path, name: bytes | None, problem: str) -> None:
    os.utime(work / 'best_acc_epoch_2.pth', (0, 0))
    if name is not None:
        (work / 'last_checkpoint').write_bytes(name.replace(b'{}', os.fsencode(work)))
    path, notice = find_checkpoint(work)
    assert path == str(work / 'epoch_1.pth')
    assert problem in notice
    assert f'Resuming from {path}, the newest checkpoint that can be used' in notice


def test_an_endless_name(work: Path) -> None:
    (work / 'last_checkpoint').symlink_to('/dev/zero')
    assert 'last_checkpoint is empty, or holds no path' in find_checkpoint(work)[1]


def test_one_with_the_state_of_the_optimiser_goes_first(tmp_path: Path) -> None:
    best = save(tmp_path / 'best_acc_epoch_2.pth')
    content = torch.load(best)
    del content['optimizer']
    torch.save(content, best)
    path, notice = find_checkpoint(tmp_path)
    assert path == str(best)
    assert 'without the state of the optimiser' in notice
    save(tmp_path / 'epoch_1.pth', age=30)
    assert find_checkpoint(tmp_path)[0] == str(tmp_path / 'epoch_1.pth')


def test_other_folders(tmp_path: Path) -> None:
    path = save(tmp_path / 'elsewhere' / 'epoch_1.pth')
    work = tmp_path / 'work'
    work.mkdir()
    assert find_checkpoint(work) == (None, '')
    assert find_checkpoint(work, [path.parent])[0] == str(path)


def test_where_nothing_can_be_used(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / 'nowhere') == (None, '')
    assert named_checkpoint(tmp_path) is None
    (tmp_path / 'epoch_1.pth').write_bytes(b'half')
    assert find_checkpoint(tmp_path) == (None, '')
    (tmp_path / 'last_checkpoint').write_text('/old/epoch_2.pth')
    with pytest.raises(
        CheckpointError, match=r'/old/epoch_2\.pth: there is no such.*to begin anew'
    ):
        find_checkpoint(tmp_path)
