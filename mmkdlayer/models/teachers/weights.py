"""Weights of other libraries from a file, without running code in it."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mmkdlayer.checkpoints import check_values, read_state_dict
from mmkdlayer.errors import CheckpointError

#: Entries under which networks are published.
ENTRIES = ('state_dict', 'model', 'teacher')


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Names and tensors of a file that torch or safetensors wrote.

    Raises:
        CheckpointError: There is no such file, it can't be read, or holds no weights.
    """
    file = Path(os.path.expanduser(path))
    if file.suffix == '.safetensors' and file.is_file():
        try:
            state = load(file.read_bytes())
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f'Weights {path}: expected a whole safetensors file, but it can not be read ({error}). '
                'Get it again, or name another file.'
            ) from error
    else:
        state = read_state_dict(path, ENTRIES)[0]
    check_values(state, f'Weights {path}')
    return state
