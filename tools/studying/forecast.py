"""What a study would do: runs, time and disk, before anything is started."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkdlayer.fitting.shortages import in_units

from .costs import measure_cost
from .curves import pace
from .planning import Setting
from .running import Board
from .tables import shown_count, shown_time
from .tasks import Task

#: Tensors of the size of the weights in a training checkpoint, by optimiser: the weights, its state.
COPIES = {'SGD': 2, 'Adam': 3, 'AdamW': 3}


def forecast(
    board: Board, settings: Mapping[str, Setting], jobs: int, keep_checkpoints: bool
) -> Iterator[str]:
    """The lines that ``--dry-run`` prints.

    The settings are by the beginning of their tasks' names; ``keep_checkpoints`` is whether these
    stay after the export.
    """
    trainings = [task for task in board.tasks.values() if task.kind == 'train']
    left = [task for task in trainings if task.name not in board.done]
    others = [name for name in board.needed if board.tasks[name].kind != 'train']
    yield (
        f'{len(trainings)} trainings, {len(trainings) - len(left)} of them done; {len(others)} times '
        'fitting or storing decisions.'
    )
    paces = known_paces(trainings, board.out)
    seconds, unknown, disk = 0.0, 0, 0
    for name, setting in settings.items():
        tasks = [
            task for task in trainings if task.name == name or task.name.startswith(f'{name}/')
        ]
        if not tasks:
            yield f'{name}: weights are given'
            continue
        cost = measure_cost(setting.cfg)
        size = checkpoint_bytes(setting.cfg, cost['parameters'], tasks[0].length, keep_checkpoints)
        todo = [task for task in tasks if task.name not in board.done]
        disk += size * len(todo)
        if name in paces:
            seconds += sum(task.length for task in todo) * paces[name]
            time = f'{shown_time(tasks[0].length * paces[name])} each'
        else:
            unknown += len(todo)
            time = 'time not known'
        yield (
            f'{name}: {len(todo)} of {len(tasks)} to do, {tasks[0].length} epochs, {time}; '
            f'{shown_count(cost["parameters"])} parameters, {shown_count(cost["flops"])} FLOPs '
            f'(folded {shown_count(cost["folded_flops"])}); {in_units(size)} of disk each'
        )
    total = (
        f'time: {shown_time(seconds / jobs)} with {jobs} at once' if seconds else 'time: not known'
    )
    if unknown:
        total += (
            f'; {unknown} trainings have none: it is taken from the logs in {board.out}, as soon as a '
            'run of the row has logged an epoch'
        )
    yield f'{total}. Fitting, storing, exports and tests are not counted.'
    place = next(path for path in (board.out, *board.out.parents) if path.exists())
    yield (
        f'disk: {in_units(disk)} of checkpoints and students, without stored decisions, whose '
        f'command says their size; {in_units(shutil.disk_usage(place).free)} are free.'
    )


def known_paces(trainings: list[Task], out: Path) -> dict[str, float]:
    """Seconds of an epoch, by the beginning of a task's name: means over what was logged so far."""
    found: dict[str, list[float]] = {}
    for task in trainings:
        seconds = pace(task.folder(out))
        if seconds:
            name = '/'.join(task.name.split('/')[:2])
            found.setdefault(name, []).append(seconds)
    return {name: sum(values) / len(values) for name, values in found.items()}


def checkpoint_bytes(cfg: Config, parameters: int, epochs: int, keep: bool) -> int:
    """Bytes that a training leaves: its checkpoints, where they are kept, and the exported student."""
    if not keep:
        return 4 * parameters
    hook: Any = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    most, saved = hook.get('max_keep_ckpts', -1), max(1, epochs // max(1, hook.get('interval', 1)))
    count = (min(most, saved) if most > 0 else saved) + bool(hook.get('save_best'))
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    return 4 * parameters * (count * COPIES.get(str(optimizer.get('type')), 3) + 1)
