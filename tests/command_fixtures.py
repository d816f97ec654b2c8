"""Fixtures of tests that run commands; a conftest imports them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Callable

import pytest
from command_line import ROOT, environment, write_images

from mmkdlayer.engine.signals import WATCH


@pytest.fixture(scope='session')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('images'))


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
