"""Finding the checkpoint to resume from, also where the last one was lost."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmkdlayer.checkpoints import check_content, read_checkpoint
from mmkdlayer.engine.resuming import not_resumable
from mmkdlayer.engine.saving import LAST_CHECKPOINT
from mmkdlayer.errors import CheckpointError

#: Bytes that a path may have.
_LONGEST_NAME = 4096


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

    It is the one that ``last_checkpoint`` names, which is looked for here first: the work dir may be a
    copy; where that can't be used, the newest of the
    ``*.pth`` files, there or in ``folders``, that can. One that has the optimiser's state goes
    before one that has not, such as ``best_*.pth``.

    Returns:
        Its path, or None where there is no checkpoint at all; and what to tell the user, empty
        where all is as expected.

    Raises:
        CheckpointError: There are some, but none can be used.
    """
    places = [work_dir, *folders]
    try:
        named = named_checkpoint(work_dir)
        if named is not None:
            named = _in_its_place(named, places)
            read_resumable(named)
            return named, ''
        problem = f'there is no {LAST_CHECKPOINT}'
    except CheckpointError as error:
        named, problem = '', str(error)
    found: dict[bool, Path] = {}
    for path in _newest_first(places):
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


def _in_its_place(named: str, folders: list[str | os.PathLike]) -> str:
    """A named checkpoint; of that name in one of some folders, where these were copied or moved."""
    folder, name = os.path.split(named)
    if os.path.realpath(folder) in map(os.path.realpath, folders):
        return named
    found = (path for place in folders if os.path.isfile(path := os.path.join(place, name)))
    return next(found, named)


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
