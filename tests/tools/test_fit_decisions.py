"""Fitting alone: two at once, and trainings that share a folder."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable

import pytest
from command_line import CONFIG, arguments, start

from mmkdlayer.engine import locks
from mmkdlayer.engine.locks import acquire, folder_lock

Main = Callable[[str, list[str]], tuple[int, str]]


def test_the_second_of_two_waits_and_uses_what_the_first_has_fitted(
    images: Path, tmp_path: Path, main: Main
) -> None:
    line = arguments(CONFIG, '--work-dir', tmp_path / 'w', '--out', tmp_path / 'out', data=images)
    assert main('fit_decisions.py', line)[0] == 0
    fitted = sorted((tmp_path / 'out').glob('*.safetensors'))
    assert [path.name for path in fitted] == ['inter.safetensors', 'penult.safetensors']
    # As the first one, in the middle of its work.
    hidden = shutil.move(fitted[0], tmp_path / 'hidden')
    first = ExitStack()
    assert acquire(tmp_path / 'out' / '.fitting.lock', first) is None
    second = start('fit_decisions.py', line, fork=False)
    assert second.stdout is not None
    output = ''
    for text in second.stdout:
        output += text
        if f'Waiting for process {os.getpid()} on ' in text:
            shutil.move(hidden, fitted[0])
            first.close()
    assert second.wait() == 0, output[-4000:]
    assert 'Decision "inter": reused' in output and 'Fitting the decisions' not in output
    assert f'inter: {fitted[0]}' in output


def test_the_second_training_of_a_work_dir_is_refused(
    images: Path, tmp_path: Path, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(folder: str, task: str, patience: float, advice: str) -> Any:
        return folder_lock(folder, task, 0, advice)

    monkeypatch.setattr(locks, 'folder_lock', impatient)
    with folder_lock(tmp_path, 'training'):
        code, errors = main('train.py', arguments(CONFIG, '--work-dir', tmp_path, data=images))
    assert code == 2
    assert f'process {os.getpid()} on ' in errors and 'choose another --work-dir' in errors
    assert not list(tmp_path.glob('20*'))
