"""Where the commands write is checked before the work for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import check_out_file, check_writable
from mmkdlayer.errors import ConfigError


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('', 'expects the name of a file, or /dev/stdout, but got ""'),
        ('-', 'or /dev/stdout, but got "-"'),
        ('.', 'is a folder, but must be a file'),
        ('/proc/none/file', 'Folder /proc/none must be writable'),
    ],
)
def test_no_place_for_a_file(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_out_file(name)


def test_places_for_a_file(tmp_path: Path) -> None:
    for path in (tmp_path / 'new' / 'file', '/dev/stdout', '/dev/null'):
        check_out_file(str(path))


def test_no_name_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='it is empty'):
        check_writable('')
    check_writable(str(tmp_path / 'new'))
