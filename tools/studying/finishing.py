"""The end of a training: the student is exported, tested on its own and measured."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import mmkdlayer
from cli.resuming import find_checkpoint
from mmkdlayer.errors import CheckpointError, DataError
from mmkdlayer.version import versions_of

from .costs import measure_cost
from .curves import peak_memory, read_curves, step_seconds, steps_done
from .one_task import seconds_of_attempts
from .tasks import read_object

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'mmrazor', 'numpy')
METRICS = 'metrics.json'


def export_and_test(
    task: dict[str, Any], folder: Path, out: Path, run: Callable[[str, list[str]], None]
) -> None:
    """Export what was trained, with folded KD layers, and test the exported student.

    The task is as :class:`~studying.tasks.Task` has written it; ``run`` runs a command of this
    project in this process.

    Raises:
        CheckpointError: Training has left no checkpoint.
    """
    with suppress(DataError):  # a damaged file is made again
        if (folder / METRICS).exists() and read_object(folder / METRICS):
            return
    checkpoint, _ = find_checkpoint(folder)
    if checkpoint is None:
        raise CheckpointError(
            f'{folder}: training ended well but has left no checkpoint. Expected one of the last epoch '
            '(default_hooks.checkpoint).'
        )
    options = [word.replace('{out}', str(out)) for word in task['options']]
    exported = folder / 'exported'
    form = ['--no-reparameterise'] if task['plain'] else ['--fold']
    run('export_student.py', [task['config'], checkpoint, '--out', str(exported), *form, *options])
    data = ['--data-root', task['test_root']] if task['test_root'] else []
    words = [str(exported / 'student.py'), str(exported / 'student.pth'), *data]
    words += ['--work-dir', str(folder / 'test'), '--out', str(folder / METRICS)]
    run('test.py', words)


def collect(task: dict[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """The result of a task, for ``result.json``. Checkpoints go here, if they are not to be kept."""
    tries = seconds_of_attempts(folder)
    result = dict(
        name=task['name'],
        kind=task['kind'],
        row=task['row'],
        identity=task['identity'],
        used=task.get('used', {}),
        command=[task['command'][0], *(shown(word, out) for word in task['command'][1:])],
        wall_seconds=round(sum(tries), 1),
        attempts=len(tries),
        environment=environment(),
    )
    if task['kind'] != 'train':
        return result
    curves = read_curves(folder)
    result.update(
        seed=task['seed'],
        accuracy=read_object(folder / METRICS),
        validated={name: curve[-1][1] for name, curve in curves.items() if 'accuracy' in name},
        step_seconds=step_seconds(folder),
        steps=steps_done(folder),
        gpu_memory_mib=peak_memory(folder),
        cost=measure_cost(Config.fromfile(task_config(folder)), folder / 'exported'),
        curves=curves,
    )
    if not task['keep_checkpoints']:
        remove_checkpoints(folder)
    return result


def remove_checkpoints(folder: Path) -> None:
    """Remove what a training has saved, but for what was exported."""
    for path in folder.glob('*.pth'):
        path.unlink()


def task_config(folder: Path) -> Path:
    """The config that training has written into its work dir, with all its changes."""
    return max(folder.glob('*/vis_data/config.py'), key=lambda path: path.stat().st_mtime)


def shown(word: str, out: Path | None = None) -> str:
    """A word of a command as results name it: whole paths from this project's root, else their end."""
    start, equals, path = word.rpartition('=')
    for place in filter(None, (ROOT, out)):
        if Path(path).is_absolute() and Path(path).is_relative_to(place):
            path = str(Path('{out}' if place == out else '', Path(path).relative_to(place)))
    return f'{start}{equals}{Path(path).name if Path(path).is_absolute() else path}'


def environment() -> dict[str, Any]:
    """Commit, versions and hardware of this process."""
    own = {'mmkdlayer': mmkdlayer.__version__, 'Python': platform.python_version()}
    return dict(
        commit=commit(),
        versions={**own, **versions_of(PACKAGES)},
        processor=processor(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def commit() -> str | None:
    """The commit of this project, with ``+`` if files have changed since; None outside a checkout."""
    call = ['git', '-C', str(ROOT)]
    try:
        head = subprocess.run(
            [*call, 'rev-parse', 'HEAD'], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*call, 'status', '--porcelain', '--untracked-files=no'],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ('+' if changed.stdout.strip() else '')


def processor() -> str:
    """Name of the processor."""
    if sys.platform == 'linux':
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()
