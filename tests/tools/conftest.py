"""Images for the commands, and a way to run a command in this process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Callable

import pytest
from command_line import CONFIG, ROOT, arguments, environment, run, write_images

from mmkdlayer.engine.signals import WATCH


@pytest.fixture(scope='session')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('images'))


@pytest.fixture(scope='session')
def earlier(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of a training of one epoch; not to be changed."""
    work = tmp_path_factory.mktemp('earlier')
    run('train.py', arguments(CONFIG, '--work-dir', work, data=images))
    return work


@pytest.fixture
def main(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> Callable[[str, list[str]], tuple[int, str]]:
    """Run a command in this process: ``main('train.py', line)`` gives exit code and errors."""

    def call(tool: str, line: list[str]) -> tuple[int, str]:
        for name, value in environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, 'argv', [tool, *line])
        capfd.readouterr()
        code = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            WATCH.stop()
        return code, capfd.readouterr().err

    return call
