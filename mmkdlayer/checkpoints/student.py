"""The student's weights in a training checkpoint or an exported student."""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor

from mmkdlayer.errors import CheckpointError

from .files import WRAPPER_PREFIX, read_state_dict, without_wrapper

STUDENT_PREFIX = 'architecture.'


def read_student_weights(
    path: str | os.PathLike, ema: bool | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The student's state dict and the meta data of a training checkpoint or an exported student.

    mmengine's EMAHook saves the averaged weights, those that it validates, as ``state_dict``, and the
    weights of the last step as ``ema_state_dict``.

    Args:
        path: A file, or a URL that mmengine can read.
        ema: True for averaged weights, False for those of the last step, None for what the checkpoint
            has as its weights: averaged ones where it has both.

    Returns:
        The student's state dict, without prefix, and the checkpoint's ``meta``; there, ``averaged`` says
        which weights these are, where the checkpoint has both.

    Raises:
        CheckpointError: It can't be read, or holds no state dict, or not the averaged weights that are
            wanted.
    """
    state, checkpoint = read_state_dict(path)
    meta = dict(checkpoint.get('meta') or {})
    last_step = checkpoint.get('ema_state_dict')
    if isinstance(last_step, dict):
        meta['averaged'] = ema is not False
        if ema is False:
            state = without_wrapper(_entries_below(WRAPPER_PREFIX, last_step))
    elif ema:
        raise CheckpointError(
            f'Checkpoint {path}: expected averaged weights, but it has none (no ema_state_dict). Train '
            "with custom_hooks=[dict(type='EMAHook')], or ask for no averaged weights."
        )
    # A data-free training under a launcher wraps the student itself.
    return without_wrapper(_entries_below(STUDENT_PREFIX, state) or state), meta


def _entries_below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
