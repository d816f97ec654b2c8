"""The whole way from two names and a folder to a config that trains."""

from __future__ import annotations

import os
from pathlib import Path

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import ConfigError

from .checking import check_config
from .config_text import config_text, teacher_text
from .planning import Pair, Wishes, plan


def make_config(wishes: Wishes, bases: Path) -> Pair:
    """Probe a pair, write its config (and the teacher's) and check that it runs.

    Args:
        wishes: What the user asked for.
        bases: The repository's ``configs/_base_``. A config inside the repository inherits them, one
            elsewhere holds what it needs.

    Returns:
        What was found out.

    Raises:
        ConfigError: A network, a place or an option does not fit.
        DataError: The data folder does not fit.
        OSError: A file can't be written.
    """
    if wishes.teacher_out and os.path.abspath(wishes.out) == os.path.abspath(wishes.teacher_out):
        raise ConfigError(f'--out and --teacher-out are the same file, {wishes.out}. Name two.')
    for out in filter(None, (wishes.out, wishes.teacher_out)):
        if Path(out).exists() and not wishes.force:
            raise ConfigError(f'{out} is there already. Choose another name, or add --force.')
        if Path(out).suffix != '.py':
            raise ConfigError(f'{out}: a config needs a name that ends in .py.')
    pair = plan(wishes)
    _write(wishes.out, config_text(pair, Path(wishes.out), bases), pair.wishes.image_size)
    if wishes.teacher_out:
        _write(wishes.teacher_out, teacher_text(pair, wishes.out, wishes.teacher_out))
    return pair


def _write(path: str, text: str, image_size: int | None = None) -> None:
    """Write beside the place, check, then rename: a config that does not run never appears."""
    with replacing(path) as trial:
        trial.write_text(text, encoding='utf-8')
        if image_size is not None:
            check_config(str(trial), image_size)
