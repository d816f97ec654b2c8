"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmkdlayer.atomic import replacing


def test_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / 'folder' / 'file.txt'
    for text in ('first', 'second'):
        with replacing(target) as partial:
            partial.write_text(text)
            assert partial.suffix == '.txt'
            assert not target.exists() or target.read_text() == 'first'
        assert target.read_text() == text
    assert [file.name for file in target.parent.iterdir()] == ['file.txt']
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / 'file.txt'
    target.write_text('old')
    with pytest.raises(KeyError), replacing(target) as partial:
        partial.write_text('half')
        raise KeyError
    assert target.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [target]
