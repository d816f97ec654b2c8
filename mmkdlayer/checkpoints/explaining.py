"""Says why a checkpoint can't be read: what is damaged, dangerous, or something else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from urllib.error import URLError

import torch

from mmkdlayer.compat.serialization import RefusedPickleError
from mmkdlayer.errors import CheckpointError

#: How files begin that are taken for checkpoints, and what they are.
BEGINNINGS = {
    b'version https://git-lfs': 'it is a pointer of Git LFS, not the file: run git lfs pull',
    b'<': 'it is a web page or XML, such as the page of a download',
}


#: What a device has to say about itself, such as that its memory is full.
DEVICE_ERRORS = (torch.cuda.OutOfMemoryError, getattr(torch, 'AcceleratorError', URLError))


@contextmanager
def explained(path: str | os.PathLike, file: IO[bytes] | None = None) -> Iterator[None]:
    """Turn whatever reading a checkpoint raises into a CheckpointError that tells damage from danger.

    ``file`` is the same, opened; None for a download. A URLError, or an error of the device that
    tensors are read to, stays as it is.
    """
    try:
        yield
    except (URLError, CheckpointError, *DEVICE_ERRORS):
        raise
    except RefusedPickleError as error:
        raise CheckpointError(
            f'Checkpoint {path}: expected tensors and plain values, but {printable(str(error))}. It is '
            'not loaded. If you trust it, load it where it was made and save its weights alone: '
            "torch.save({'state_dict': model.state_dict()}, path)."
        ) from error
    except Exception as error:  # a damaged file can raise anything
        kind = None if file is None else _kind_of(file)
        if kind is not None:
            raise CheckpointError(
                f'Checkpoint {path}: expected a file that torch saved, but {kind}.'
            ) from error
        reason = ': '.join([type(error).__name__, *map(printable, str(error).splitlines()[:1])])
        raise CheckpointError(
            f'Checkpoint {path}: expected tensors and plain values that torch saved, but it cannot be '
            f'read ({reason}). It is damaged or no checkpoint: truncated, an incomplete download. Get '
            'it again, or name another file.'
        ) from error


def _kind_of(file: IO[bytes]) -> str | None:
    """What a file is that is none of torch."""
    file.seek(0)
    start = file.read(64)
    for beginning, kind in BEGINNINGS.items():
        if start.lstrip().startswith(beginning):
            return kind
    if start[8:9] == b'{' and start[7:8] == b'\0':  # after the length of its header
        return (
            'it is a safetensors file. Save it as one of torch: '
            'torch.save(safetensors.torch.load_file(FILE), "weights.pth")'
        )
    return None


def printable(text: str) -> str:
    """Text of a file as it may be shown: no control characters, not too long."""
    return ''.join(letter if letter.isprintable() else '?' for letter in text[:300])
