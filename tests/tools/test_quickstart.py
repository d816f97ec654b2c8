"""The quickstart says how far it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import load_tool

quickstart = load_tool('quickstart')
LOG = """
11/26 - mmengine - INFO - Config:
train_cfg = dict(max_epochs=60, val_interval=20)
"""


@pytest.mark.parametrize(
    ('log', 'expected'),
    [
        ('', 'starting'),
        (LOG, 'starting'),
        (LOG + "Fitting the decisions ['inter']\n", "fitting the teacher's decisions"),
        (
            LOG
            + 'Fitting the decisions\nEpoch(train)  [1][13/13]  lr: 5\nEpoch(train) [2][13/13]\n',
            'epoch 2 of 60',
        ),
        ('Epoch(train) [12][5/13]', 'epoch 12'),
    ],
)
def test_progress_of_a_log(log: str, expected: str) -> None:
    assert quickstart.progress(log) == expected


def test_lines_while_a_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    wait = iter([None, None, 0])

    class Process:
        def __init__(self, line: list, stdout, **more: object) -> None:
            stdout.write('Epoch(train) [3][1/2]\n')
            stdout.flush()

        def wait(self, seconds: float) -> int:
            code = next(wait)
            if code is None:
                raise subprocess.TimeoutExpired('x', seconds)
            return code

        def terminate(self) -> None:
            pass

    monkeypatch.setattr(subprocess, 'Popen', Process)
    quickstart.run('train', tmp_path / 'log', 'train.py')
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if 'epoch 3' in line] == ['   0 s: epoch 3']  # once, not twice
    assert lines[-1] == '   0 s'


def test_a_command_that_fails_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match='"x" failed with exit code 3'):
        quickstart.run('x', tmp_path / 'log', '-c', 'print("last words"); raise SystemExit(3)')
    assert 'last words' in capsys.readouterr().err
