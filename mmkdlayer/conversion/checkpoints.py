"""Reads checkpoints of unknown origin without running their code, and writes ours in one piece."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmkdlayer.atomic import replacing
from mmkdlayer.errors import KDLayerError

WRAPPERS = ('model', 'state_dict', 'model_state_dict', 'net')


class CheckpointError(KDLayerError, ValueError):
    """A checkpoint can't be read, or holds another network than expected."""


def load_safely(path: Path) -> Any:
    """Load a file that torch saved, with tensors and plain values only.

    Where torch has an allow-list (2.4 and later), :mod:`mmkdlayer.compat` has put numpy's plain
    numbers on it, which some files keep as their accuracy.

    Args:
        path: The file.

    Returns:
        Whatever was saved, on the CPU.

    Raises:
        CheckpointError: There is no such file, or it is damaged, of another kind, or needs code to
            load.
    """
    if not path.is_file():
        raise CheckpointError(f'{path}: expected a checkpoint file, but there is no such file.')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file can raise anything from torch's unpickler
        # torch's own text advises to switch the safety off; what it met is all that helps here.
        wanted = re.search(r'(?:GLOBAL|Unsupported class) (\S+)', str(error))
        reason = type(error).__name__ + (f', it asks for {wanted[1]}' if wanted else '')
        raise CheckpointError(
            f'{path}: expected a checkpoint that torch saved, with tensors and plain values only, '
            f'but torch could not load it so ({reason}). Either it is '
            'damaged or no checkpoint (an incomplete download, a web page), or it holds pickled '
            'Python objects, which are not loaded since they can run any code. If you trust it, '
            'load it where it was made and save its weights alone: '
            "torch.save({'model': model.state_dict()}, path)."
        ) from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a network's tensors from a checkpoint: bare, or under ``model`` beside other entries.

    The prefix ``module.`` of a network saved inside DataParallel is taken off.

    Args:
        path: The checkpoint.

    Returns:
        Names and tensors, in the order of the file.

    Raises:
        CheckpointError: The file can't be read, or holds no state dict.
    """
    saved = load_safely(path)
    state = saved
    if isinstance(saved, Mapping):
        inside = [saved[name] for name in WRAPPERS if isinstance(saved.get(name), Mapping)]
        state = inside[0] if inside else saved
    if not isinstance(state, Mapping) or not state or not all(map(torch.is_tensor, state.values())):
        entries = f' with the entries {list(saved)[:8]}' if isinstance(saved, Mapping) else ''
        raise CheckpointError(
            f'{path}: expected a state dict (names and tensors), bare or under one of {WRAPPERS}, '
            f'but found a {type(saved).__name__}{entries}. Save the weights as '
            "torch.save({'model': model.state_dict()}, path)."
        )
    prefix = 'module.'
    if all(str(name).startswith(prefix) for name in state):
        return {str(name)[len(prefix) :]: tensor for name, tensor in state.items()}
    return {str(name): tensor for name, tensor in state.items()}


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Save a checkpoint; whoever looks sees the whole file or none.

    Args:
        path: Where to; folders are made as needed, an existing file is replaced.
        checkpoint: What to save.

    Raises:
        CheckpointError: The file can't be written there.
    """
    try:
        with replacing(path) as partial:
            torch.save(checkpoint, partial)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f'{path}: expected to write a checkpoint there, but {error}. Choose another place.'
        ) from error
