"""A tiny study of two rows on made-up images, and ways to run and kill it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from command_line import ROOT, TINY, environment, start
from forked import Forked, program

from studying import one_task, running

KDLAYER = ROOT / 'configs' / 'kdlayer'
PLAIN = {
    key.replace('.architecture', ''): value
    for key, value in TINY.items()
    if '.teacher' not in key and 'distiller' not in key
}
#: Without random augmentation, whose draws a resumed training does not repeat.
CONFIG = """
_base_ = {base!r}
train_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
default_hooks = dict(checkpoint=dict(save_best=None))
"""
STUDY = """
title = 'Two rows'
seeds = [0, 1]
teachers = dict(small=dict(config='teacher.py', cfg_options={teacher!r}))
rows = dict(
    alone=dict(config='alone.py', label='alone', quoted=33.25, cfg_options={alone!r}),
    letkd2=dict(config='letkd2.py', label='letKD-2', teacher='small', cfg_options={letkd2!r}))
comparisons = [('letkd2', 'alone')]
data_root = {data!r}
"""


def write_study(folder: Path, data: Path, **options: Any) -> Path:
    """Write the study and its configs; ``options`` are changes of all trainings (dots as ``__``)."""
    for name, end in dict(teacher='_teacher', alone='_baseline', letkd2='').items():
        base = str(KDLAYER / f'folder_example{end}.py')
        (folder / f'{name}.py').write_text(CONFIG.format(base=base))
    more = {'train_cfg.max_epochs': 2}
    more.update({key.replace('__', '.'): value for key, value in options.items()})
    text = STUDY.format(
        teacher={**PLAIN, **more, 'model.backbone.depth': 18},
        alone={**PLAIN, **more},
        letkd2={**TINY, **more},
        data=str(data),
    )
    path = folder / 'study.py'
    path.write_text(text)
    return path


def forked_task(task: Any, out: Path, *_: Any) -> Forked:
    """In the place of :func:`studying.running.start`."""
    task.write(out)
    parent = str(os.getpid())

    def call() -> int:
        os.environ[one_task.PARENT] = parent
        return one_task.main(task.folder(out))

    return silent(call)


def silent(call: Callable[[], object]) -> Forked:
    """A fork whose output nobody reads."""
    with open(os.devnull, 'w') as output:
        return Forked(call, output.fileno())


def pretended_task(task: Any, out: Path, *_: Any) -> mock.Mock:
    """In the place of :func:`studying.running.start`: a task that is done at once."""
    folder = task.folder(out)
    task.write(out)
    one_task.note(folder, started=1.0)
    one_task.note(folder, ended=2.0, code=0)
    result = dict(
        name=task.name,
        kind=task.kind,
        row=task.row,
        seed=task.seed,
        identity=task.identity,
        used=task.used,
        wall_seconds=1.0,
        attempts=1,
        environment=dict(commit='abc', versions={}, processor='CPU', threads=1, gpu=None),
    )
    if task.kind == 'train':
        result.update(accuracy={'accuracy/top1': 50.0}, curves={}, cost=dict(folded_flops=1.0))
        result.update(step_seconds=0.1, steps=10)
    one_task.write(folder / one_task.RESULT, result)
    return mock.Mock(poll=lambda: 0, returncode=0)


def forked_study(line: list[str]) -> Forked:
    """The command on a study, whose tasks are forked too."""

    def call() -> None:
        with mock.patch.object(running, 'start', forked_task):
            program(ROOT / 'tools' / 'study.py', line, environment())()

    return silent(call)


def start_study(line: list[str], fork: bool = True) -> Forked | subprocess.Popen:
    """Start a study: as a command, or forked, which a process that has used a GPU can't be."""
    if fork and not torch.cuda.is_available():
        return forked_study(line)
    return start('study.py', line, fork=False)


def run_and_kill(line: list[str], when: Callable[[], bool], fork: bool = True) -> int | None:
    """Start a study, and kill it with all that it has started as soon as ``when`` is true.

    Returns:
        Its exit code where it ended before.
    """
    process = start_study(line, fork)
    end = time.monotonic() + 300
    children: list[int] = []
    try:
        while process.poll() is None and not when():
            assert time.monotonic() < end
            time.sleep(0.02)
        if process.poll() is not None:
            return process.returncode
    finally:
        if process.poll() is None:
            children = descendants(process.pid)
            for number in (process.pid, *children):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            process.wait()
    while any(map(is_alive, children)):
        assert time.monotonic() < end + 60
        time.sleep(0.02)
    return None


def descendants(number: int) -> list[int]:
    """The processes below a process."""
    found: list[int] = []
    with suppress(OSError):
        for child in Path(f'/proc/{number}/task/{number}/children').read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def is_alive(number: int) -> bool:
    """Whether a process runs, and is no zombie."""
    with suppress(OSError):
        return Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    return False


def measured(results: dict) -> dict[str, Any]:
    """What must not depend on interruptions: accuracy, and the curves, of each run."""
    return {
        run['name']: (run['accuracy'], run['curves'])
        for run in (*results['teachers'], *results['runs'])
    }
