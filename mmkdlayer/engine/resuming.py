"""Finding the checkpoint to resume from, also where the last one was lost."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Callable

from mmengine.optim import OptimWrapperDict

from mmkdlayer.checkpoints import check_content, read_checkpoint
from mmkdlayer.errors import CheckpointError

from .saving import LAST_CHECKPOINT

#: Bytes that a path may have.
_LONGEST_NAME = 4096
#: What of a scheduler changes as it goes on.
_MOVING = {
    *('optimizer', 'last_step', 'base_values', 'verbose', '_global_step', '_last_value'),
    *('best', 'cooldown_counter', 'num_bad_epochs'),
}


def named_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """What ``last_checkpoint`` of a work dir names; None where there is no such file.

    Raises:
        CheckpointError: It is no regular file, empty, no text, or longer than a path can be.
    """
    path = Path(work_dir, LAST_CHECKPOINT)
    if not os.path.lexists(path):
        return None
    if path.is_file():
        with path.open('rb') as file:
            name = file.read(_LONGEST_NAME + 1).decode(errors='backslashreplace').strip()
        if name.isprintable() and 0 < len(name) <= _LONGEST_NAME:
            return name
    raise CheckpointError(f'{path} is empty, or holds no path')


def find_checkpoint(
    work_dir: str | os.PathLike, folders: Iterable[str | os.PathLike] = ()
) -> tuple[str | None, str]:
    """The checkpoint that a training in a work dir is resumed from.

    It is the one that ``last_checkpoint`` names; where that can't be used, the newest of the ``*.pth``
    files that can. One that has the optimiser's state goes before one that has not, such as
    ``best_*.pth``.

    Args:
        work_dir: Where ``last_checkpoint`` is.
        folders: Where checkpoints are beside the work dir.

    Returns:
        Its path, or None where there is no checkpoint at all; and what to tell the user, empty where
        all is as expected.

    Raises:
        CheckpointError: There are some, but none can be used.
    """
    try:
        named = named_checkpoint(work_dir)
        if named is not None:
            read_resumable(named)
            return named, ''
        problem = f'there is no {LAST_CHECKPOINT}'
    except CheckpointError as error:
        named, problem = '', str(error)
    found: dict[bool, Path] = {}
    for path in _newest_first([work_dir, *folders]):
        try:
            found.setdefault('optimizer' in read_resumable(path), path)
        except CheckpointError:
            continue
        if True in found:
            break
    if found:
        newest = found.get(True) or found[False]
        lacking = '' if True in found else ', though without the state of the optimiser'
        notice = (
            f'Resuming from {newest}, the newest checkpoint that can be used{lacking}: {problem}'
        )
        return str(newest), notice
    if named is None:
        return None, ''
    raise CheckpointError(
        f'--resume: {problem}. No other checkpoint in {work_dir} can be used. Give one with --resume '
        f'CHECKPOINT, or remove {Path(work_dir, LAST_CHECKPOINT)} to begin anew.'
    )


def _newest_first(folders: Iterable[str | os.PathLike]) -> list[Path]:
    """The checkpoints in some folders, but for those that are being written (whose names are hidden)."""
    files = {
        path for folder in folders for path in Path(folder).glob('[!.]*.pth') if path.is_file()
    }
    return sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)


def read_resumable(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint that a training can be resumed from.

    Raises:
        CheckpointError: It can't be read, or does not hold what resuming needs.
    """
    content = read_checkpoint(path)
    check_content(content, f'Checkpoint {path}')
    problem = not_resumable(content)
    if problem:
        raise CheckpointError(f'Checkpoint {path} {problem}')
    return content


def not_resumable(checkpoint: Any) -> str | None:
    """Why a training can't be resumed from what a checkpoint holds, as the rest of a sentence."""
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get('state_dict'), Mapping):
        return 'holds no state_dict'
    meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
    if not isinstance(meta, Mapping):
        return 'holds no meta, which says how far the training was'
    for name in ('epoch', 'iter'):
        if type(meta.get(name)) is not int or meta[name] < 0:
            return f'has meta[{name!r}]={meta.get(name)!r:.80}, where a number of at least 0 is expected'
    parts = ('log_scalars', 'runtime_info', 'resumed_keys')
    if not isinstance(hub, Mapping) or not all(isinstance(hub.get(p), Mapping) for p in parts):
        return f'holds no message_hub (with {", ".join(parts)}), which a training checkpoint has'
    if not isinstance(checkpoint.get('optimizer', {}), Mapping):
        return 'holds an optimizer that is no state'
    try:
        saved_schedules(checkpoint)
    except (TypeError, ValueError):
        return 'holds param_schedulers that are no states'
    return None


def load_optimizer(wrapper: Any, state: Any) -> str | None:
    """Load the state of an optimiser, or say why it is that of another, as the rest of a sentence.

    Args:
        wrapper: An OptimWrapper, or an OptimWrapperDict.
        state: What one has saved; it stays as it is.
    """
    try:
        if isinstance(wrapper, OptimWrapperDict):
            problems = (load_optimizer(one, state[name]) for name, one in wrapper.items())
            return next(filter(None, problems), None)
        wrapper.load_state_dict(dict(state))
        optimizer = wrapper.optimizer
        lost = {
            name for group in optimizer.param_groups for name in optimizer.defaults.keys() - group
        }
        problem = f'options {sorted(lost)} are missing' if lost else ''
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f'{type(error).__name__}: {error}'
    return (
        f'has the state of another optimiser than the config makes ({problem})' if problem else None
    )


def settings(runner: Any) -> dict[str, Any]:
    """The options of the optimisers and schedules of a runner, by dotted name."""
    wrapper = runner.optim_wrapper
    single = not isinstance(wrapper, OptimWrapperDict)
    found = {}
    for name, one in [('', wrapper)] if single else wrapper.items():
        for group in reversed(one.optimizer.param_groups):
            for key, value in group.items():
                if key != 'params' and not key.startswith('initial_'):
                    # As it was before any schedule.
                    value = group.get(f'initial_{key}', value)
                    found[f'optimizer.{name and f"{name}."}{key}'] = value
    return {**found, **_schedule_settings(runner.param_schedulers, vars)}


def saved_schedules(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the schedules in a checkpoint, which mmengine loads whole."""
    return _schedule_settings(checkpoint.get('param_schedulers'), dict)


def _schedule_settings(schedules: Any, read: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    groups = schedules if isinstance(schedules, Mapping) else {'': schedules}
    return {
        f'param_scheduler.{name and f"{name}."}{index}.{key}': value
        for name, group in groups.items()
        for index, one in enumerate(group or ())
        for key, value in read(one).items()
        if key not in _MOVING
    }
