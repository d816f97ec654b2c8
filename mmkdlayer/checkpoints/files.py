"""Reads checkpoints of any origin without running their code, and writes ours in one piece."""

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

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import CheckpointError

from .restricted_pickle import load_restricted, refuse_programs

WRAPPER_PREFIX = 'module.'


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
            f'Checkpoint {path}: expected tensors and plain values that torch saved, but it can not be '
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
            "weights as torch.save({'state_dict': model.state_dict()}, path)."
        )
    return without_wrapper(state), dict(checkpoint) if found else {}


def without_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefix that DataParallel puts before every entry."""
    if all(str(name).startswith(WRAPPER_PREFIX) for name in state):
        return {str(name)[len(WRAPPER_PREFIX) :]: tensor for name, tensor in state.items()}
    return {str(name): tensor for name, tensor in state.items()}


def write_checkpoint(path: str | os.PathLike, checkpoint: Mapping[str, Any]) -> None:
    """Save a checkpoint; whoever looks sees the whole file or none.

    Args:
        path: Where to; folders are made as needed, an existing file is replaced.
        checkpoint: What to save.

    Raises:
        CheckpointError: The file can't be written there.
    """
    try:
        with replacing(path) as partial:
            torch.save(dict(checkpoint), partial)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f'{path}: expected to write a checkpoint there, but {error}. Choose another place.'
        ) from error


def hash_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
