"""Wheels for a machine without network: what is refused, and what is installed there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT


def call(*line: object, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / 'gpu_wheels.sh'), *map(str, line)],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHON=sys.executable, **variables),
        timeout=300,
    )


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        (['--instal'], 'no option --instal; there are --dir, --python and --install'),
        (['--dir'], '--dir expects a value'),
        (['opencv-python-headless'], '--python expects the Python of the other machine'),
        (['--install', '--dir', 'nowhere'], 'nowhere has no requirements.txt: make it with'),
    ],
)
def test_refused(line: list[str], words: str) -> None:
    done = call(*line)
    assert done.returncode == 1 and done.stdout == ''
    assert words in done.stderr


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip('mmrazor', reason='the wheels are for training')
    (tmp_path / 'requirements.txt').write_text('mmengine>=0.10,<1\nmmpretrain\npytest\n')
    done = call('--install', '--dir', tmp_path)  # would fail where one of them had to be found
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'gpu_wheels: ready: {sys.executable} benchmarks/gpu.py\n'
    (tmp_path / 'requirements.txt').write_text('a-package-that-nobody-has\n')
    assert call('--install', '--dir', tmp_path).returncode == 1
