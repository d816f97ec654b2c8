"""Which results a changed study keeps, with tasks that are done at once in the place of training."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from study_runs import pretended_task, write_study

from mmkdlayer.errors import ConfigError
from studying.planning import plan
from studying.running import Board
from studying.study_file import read_study
from studying.tasks import Task, check_begun

Change = Callable[..., list[str]]


@pytest.fixture
def change(images: Path, tmp_path: Path) -> Change:
    """Changes words of a study that is done: the names of what is refused then, else it is done anew."""
    path, out = write_study(tmp_path, images), tmp_path / 'out'

    def change(*changes: tuple[str, str]) -> list[str]:
        text = path.read_text()
        for old, new in changes:
            assert re.search(old, text)
            text = re.sub(old, new, text)
        path.write_text(text)
        tasks, _ = plan(read_study(path))
        try:
            check_begun(tasks, out)
        except ConfigError as error:
            names = re.search(r'such a run: (.*?)\. Choose', str(error))[1]
            return re.sub(r'-\w{8}', '', names).split(', ')
        for task in tasks:
            if task.result(out) is None:
                pretended_task(task, out)
        return []

    assert change() == []
    return change


TAUGHT = ['decisions/small', 'runs/letkd2/seed0', 'runs/letkd2/seed1']


def test_what_another_teacher_has_taught_is_refused(change: Change, tmp_path: Path) -> None:
    weights = [tmp_path / name for name in ('a.pth', 'b.pth')]
    for path in weights:
        path.write_text(path.name)
    given = f"small=dict(checkpoint='{weights[0]}'))\n"
    assert change((r'small=dict\(config=.*\n', given)) == TAUGHT
    for name in TAUGHT:
        for folder in (tmp_path / 'out').glob(f'{name}*'):
            shutil.rmtree(folder)
    assert change() == []
    assert change(('a.pth', 'b.pth')) == TAUGHT
    weights[1].write_text('a.pth')  # the same weights in another place
    assert change() == []


def test_all_that_a_changed_teacher_has_taught_is_named(change: Change, tmp_path: Path) -> None:
    seed = (r'small=dict\(', 'small=dict(seed=5, ')
    assert change(seed) == ['teachers/small', *TAUGHT]
    shutil.rmtree(tmp_path / 'out' / 'teachers' / 'small')
    assert change() == TAUGHT


@pytest.mark.parametrize('key', ['load_from', 'init_cfg', 'pretrained'])
def test_other_initial_weights_are_refused(change: Change, tmp_path: Path, key: str) -> None:
    weights, config = tmp_path / 'first.pth', tmp_path / 'alone.py'
    weights.write_text('A')
    value = f'dict(type="Pretrained", checkpoint={str(weights)!r})' if key == 'init_cfg' else ''
    entry = f'{key}={value or repr(str(weights))}'
    model = f'model = dict(backbone=dict({entry}))'
    config.write_text(f'{config.read_text()}\n{entry if key == "load_from" else model}\n')
    runs = ['runs/alone/seed0', 'runs/alone/seed1']
    assert change() == runs
    shutil.rmtree(tmp_path / 'out' / 'runs' / 'alone')
    assert change() == []
    weights.write_text('B')
    assert change() == runs


def test_what_was_not_recorded_is_not_compared(change: Change, tmp_path: Path) -> None:
    for path in (tmp_path / 'out').glob('*/**/*.json'):
        content = json.loads(path.read_text())
        content.pop('used', None)
        path.write_text(json.dumps(content))
    weights = tmp_path / 'a.pth'
    weights.touch()
    assert change((r'small=dict\(config=.*\n', f"small=dict(checkpoint='{weights}'))\n")) == []


def test_a_job_of_the_study_before_its_change_has_failed(tmp_path: Path) -> None:
    waiting = Task('runs/a/seed0', 'train', (), identity='before')
    task = Task('runs/a/seed0', 'train', (), identity='now')
    board = Board(tmp_path, [task])
    pretended_task(waiting, tmp_path)  # Slurm has begun it meanwhile
    board.settle(task.name)
    assert not board.done
    assert 'while the study was changed. Remove' in board.failed[task.name]
