"""Reads checkpoints of any origin without running code in them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mmkdlayer.errors import CheckpointError

from .restricted_pickle import load_restricted, refuse_programs

#: Before the student's entries in a training checkpoint, and before every entry of a wrapped model.
STUDENT_PREFIX, WRAPPER_PREFIX = 'architecture.', 'module.'


def read_checkpoint(path: str | os.PathLike) -> Any:
    """Read a file that torch saved, with tensors and plain values only, onto the CPU.

    Where torch has an allow-list (2.4 and later), :mod:`mmkdlayer.compat` has put what mmengine's
    checkpoints hold on it; before that an unpickler of ours knows the same names. Only downloads are
    read as mmengine reads them, which before torch 2.6 is by pickle.

    Args:
        path: A file, or a URL that mmengine can read.

    Returns:
        Whatever was saved.

    Raises:
        CheckpointError: There is no such file, or it is damaged, of another kind, or needs code to
            load.
        URLError: It can't be downloaded.
    """
    downloaded = '://' in str(path)
    if not downloaded and not Path(path).is_file():
        raise CheckpointError(f'Checkpoint {path}: there is no such file. Check the path.')
    try:
        if downloaded:
            return CheckpointLoader.load_checkpoint(os.fspath(path), map_location='cpu')
        if hasattr(torch.serialization, 'add_safe_globals'):
            refuse_programs(path)
            return torch.load(path, map_location='cpu', weights_only=True)
        return load_restricted(path)
    except URLError:
        raise
    except Exception as error:  # a damaged file can raise anything from torch's unpickler
        raise CheckpointError(
            f'Checkpoint {path}: expected tensors and plain values that torch saved, but it cannot be '
            f'loaded ({_reason(error)}). Either it is damaged or no checkpoint (truncated, an '
            'incomplete download, a web page), or it holds pickled Python objects, which are not '
            'loaded since they can run any code. If you trust it, load it where it was made and save '
            "its weights alone: torch.save({'state_dict': model.state_dict()}, path)."
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, without torch's own advice, which is to switch the safety off."""
    text = str(error)
    if 'weights_only' in text:
        refused = re.search(r'(?:GLOBAL|Unsupported class) (\S+)', text)
        text = f'it asks for {refused[1]}' if refused else ''
    return ': '.join([type(error).__name__, *text.strip().splitlines()[:1]])


def read_state_dict(
    path: str | os.PathLike, entries: Sequence[str] = ('state_dict',)
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a network's tensors from a checkpoint, in which they are bare or one of several entries.

    Args:
        path: A file, or a URL that mmengine can read.
        entries: Names of the entry that holds them; the first that is there counts.

    Returns:
        Names and tensors, in the order of the file and without the prefix of a wrapper; and the whole
        checkpoint (empty where it is a bare state dict).

    Raises:
        CheckpointError: The file can't be read, or holds no state dict.
        URLError: It can't be downloaded.
    """
    content = read_checkpoint(path)
    checkpoint = content if isinstance(content, Mapping) else {}
    found = [checkpoint[name] for name in entries if isinstance(checkpoint.get(name), Mapping)]
    state = found[0] if found else content
    if not isinstance(state, Mapping) or not state or not all(map(torch.is_tensor, state.values())):
        names = f' with the entries {list(checkpoint)[:8]}' if checkpoint else ''
        raise CheckpointError(
            f'Checkpoint {path}: expected a state dict (names and tensors), bare or under '
            f'{" or ".join(map(repr, entries))}, but found a {type(content).__name__}{names}. Save the '
            "weights as torch.save({'state_dict': model.state_dict()}, path); convert a published "
            "teacher's by tools/convert_teacher.py."
        )
    return _without_wrapper(state), dict(checkpoint) if found else {}


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
            state = _without_wrapper(_entries_below(WRAPPER_PREFIX, last_step))
    elif ema:
        raise CheckpointError(
            f'Checkpoint {path}: expected averaged weights, but it has none (no ema_state_dict). Train '
            "with custom_hooks=[dict(type='EMAHook')], or ask for no averaged weights."
        )
    # A data-free training under a launcher wraps the student itself.
    return _without_wrapper(_entries_below(STUDENT_PREFIX, state) or state), meta


def _without_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefix that DataParallel puts before every entry."""
    if all(str(name).startswith(WRAPPER_PREFIX) for name in state):
        return {str(name)[len(WRAPPER_PREFIX) :]: tensor for name, tensor in state.items()}
    return {str(name): tensor for name, tensor in state.items()}


def _entries_below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def hash_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
