"""The order of tasks and what becomes of failed ones, with a script in the place of training."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from studying import running
from studying.running import Board, Stopped, run_here, start
from studying.tasks import Task

SCRIPT = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
task = json.loads((folder / 'task.json').read_text())
out = folder.parents[task['name'].count('/')]
words = os.environ.get('OMP_NUM_THREADS', '')
with open(out / 'order', 'a') as file:
    file.write(f"+{task['name']} {words}\\n")
time.sleep(float(task['row'] or 0))
with open(out / 'order', 'a') as file:
    file.write(f"-{task['name']}\\n")
if 'bad' in task['name']:
    (folder / 'failed.json').write_text(json.dumps(dict(code=2, reason='no such file')))
    sys.exit(2)
if 'gone' in task['name']:
    sys.exit(9)
(folder / 'result.json').write_text('{}')
"""


@pytest.fixture(autouse=True)
def _script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'script.py'
    path.write_text(SCRIPT)
    monkeypatch.setattr(running, 'SCRIPT', path)
    monkeypatch.setattr(running, 'STEP', 0.02)


def task(name: str, *needs: str, kind: str = 'train', seconds: float = 0) -> Task:
    return Task(name, kind, (), needs=needs, row=str(seconds))


def test_tasks_wait_for_what_they_need_and_keep_their_order(tmp_path: Path) -> None:
    tasks = [task('teacher'), task('fit', 'teacher', kind='fit'), task('unused', kind='fit')]
    tasks += [task(f'runs/{row}{seed}', 'fit') for seed in (0, 1) for row in 'ab']
    looks = []
    board = Board(tmp_path, tasks)
    run_here(board, 1, lambda: looks.append(set(board.running)))
    lines = [line.split()[0] for line in (tmp_path / 'order').read_text().splitlines()]
    names = ['teacher', 'fit', 'runs/a0', 'runs/b0', 'runs/a1', 'runs/b1']
    assert lines == [f'{sign}{name}' for name in names for sign in '+-']
    assert all(len(look) <= 1 for look in looks)
    assert board.is_finished and not board.failed

    # What is done is not done again; nor is the fitting, which only a done run needs.
    (tmp_path / 'order').unlink()
    (tmp_path / 'runs/b0/result.json').unlink()
    (tmp_path / 'teacher/result.json').unlink()
    tasks[0] = task('teacher', kind='fit')
    run_here(Board(tmp_path, tasks), 1, lambda: None)
    assert [line.split()[0] for line in (tmp_path / 'order').read_text().splitlines()] == [
        '+runs/b0',
        '-runs/b0',
    ]


def test_a_failed_task_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    tasks = [task('bad'), task('fit', 'bad', kind='fit'), task('runs/a', 'fit'), task('runs/b')]
    board = Board(tmp_path, [*tasks, task('gone')])
    run_here(board, 2, lambda: None)
    assert board.done == {'runs/b'}
    assert board.failed == {
        'bad': 'no such file',
        'fit': 'bad failed, which it needs',
        'runs/a': 'fit failed, which it needs',
        'gone': 'it ended with exit code 9',
    }


def test_jobs_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(16)), raising=False)
    board = Board(tmp_path, [task(f'run{number}', seconds=0.3) for number in range(5)])
    most = []
    run_here(board, 3, lambda: most.append(len(board.running)))
    assert max(most) == 3
    lines = (tmp_path / 'order').read_text().splitlines()
    assert {line.split()[1] for line in lines if line[0] == '+'} == {'5'}


@pytest.mark.parametrize(
    ('listed', 'there', 'expected'),
    [(None, 3, ['0', '1', '2', '0']), ('5,7', 2, ['5', '7', '5', '7']), ('4', 1, ['4'] * 4)],
)
def test_jobs_take_turns_on_the_gpus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listed: str | None,
    there: int,
    expected: list[str],
) -> None:
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if listed is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', listed)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: there)
    started = []
    monkeypatch.setattr(
        subprocess, 'Popen', lambda *args, env, **kwargs: started.append(env) or Mock()
    )
    for slot in range(4):
        start(task(f'run{slot}'), tmp_path, slot, 4)
    assert [env['CUDA_VISIBLE_DEVICES'] for env in started] == expected


def test_a_signal_ends_the_tasks_and_then_the_study(tmp_path: Path) -> None:
    board = Board(tmp_path, [task('run0', seconds=60), task('run1', seconds=60)])

    def send() -> None:
        while not (tmp_path / 'order').exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    begin = time.monotonic()
    with pytest.raises(Stopped, match='SIGTERM'):
        run_here(board, 1, lambda: None)
    thread.join()
    assert time.monotonic() - begin < 30
    assert not board.done and not board.failed
