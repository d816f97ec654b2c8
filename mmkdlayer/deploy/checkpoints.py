"""Reads the student's weights out of checkpoints."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from typing import Any
from urllib.error import URLError

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.state_dicts import describe_misfits

from .restricted_pickle import load_restricted, refuse_programs

STUDENT_PREFIX = 'architecture.'
WRAPPER_PREFIX = 'module.'


def load_checkpoint_file(path: str | os.PathLike) -> Any:
    """Read a checkpoint onto the CPU, without running code in it.

    Only downloads are read as mmengine reads them, which before torch 2.6 is by pickle.

    Args:
        path: A file, or a URL that mmengine can read.

    Raises:
        ConfigError: It can't be read.
        URLError: It can't be downloaded.
    """
    try:
        if '://' in str(path):
            return CheckpointLoader.load_checkpoint(os.fspath(path), map_location='cpu')
        if hasattr(torch.serialization, 'add_safe_globals'):
            refuse_programs(path)
            return torch.load(path, map_location='cpu', weights_only=True)
        return load_restricted(path)
    except URLError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f'Checkpoint {path}: there is no such file. Check the path.') from error
    except Exception as error:
        first_line = ' '.join(str(error).strip().splitlines()[:1])
        raise ConfigError(
            f'Checkpoint {path}: expected a checkpoint that torch can load, but reading it failed '
            f'({type(error).__name__}: {first_line}). Check the path; the file may be truncated.'
        ) from error


def read_student_weights(
    path: str | os.PathLike, ema: bool | None = None
) -> tuple[OrderedDict[str, Tensor], dict[str, Any]]:
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
        ConfigError: It can't be read, or holds no state dict, or not the averaged weights that are
            wanted.
    """
    checkpoint = load_checkpoint_file(path)
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f'Checkpoint {path}: expected a state dict, but found none.')
    meta = dict(checkpoint.get('meta') or {})
    other = checkpoint.get('ema_state_dict')
    if isinstance(other, dict):
        meta['averaged'] = ema is not False
        if ema is False:
            inside = [key for key in other if key.startswith(WRAPPER_PREFIX)]
            state = {key[len(WRAPPER_PREFIX) :]: other[key] for key in inside}
    elif ema:
        raise ConfigError(
            f'Checkpoint {path}: expected averaged weights, but it has none (no ema_state_dict). Train '
            "with custom_hooks=[dict(type='EMAHook')], or ask for no averaged weights."
        )
    state = _unwrapped(state)  # saved from within DDP
    inside = [key for key in state if key.startswith(STUDENT_PREFIX)]
    if inside:
        # A data-free training under a launcher wraps the student itself.
        state = _unwrapped({key[len(STUDENT_PREFIX) :]: state[key] for key in inside})
    return OrderedDict(state), meta


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefix that a wrapper puts before every entry."""
    if not all(key.startswith(WRAPPER_PREFIX) for key in state):
        return state
    return {key[len(WRAPPER_PREFIX) :]: value for key, value in state.items()}


def hash_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def load_weights(model: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        ConfigError: Keys are missing or left over, or shapes differ; examples are named.
    """
    problems = describe_misfits(model.state_dict(), state)
    if problems:
        raise ConfigError(
            f'{origin} does not fit the model {type(model).__name__}: of its entries, '
            f'{"; ".join(problems)}. It is of another architecture, or the config is not the one it '
            'was trained with.'
        )
    model.load_state_dict(state)
