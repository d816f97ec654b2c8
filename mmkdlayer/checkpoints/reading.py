"""Reads checkpoints of any origin without running code in them."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import IO, Any

from mmengine.runner import CheckpointLoader

from mmkdlayer.errors import CheckpointError

from .explaining import explained
from .loading import load_restricted


def read_checkpoint(
    path: str | os.PathLike, map_location: Any = 'cpu', sha256: str | None = None
) -> Any:
    """Read what torch saved, of tensors and plain values only, into memory of its own.

    An unpickler of ours reads it, which knows torch's allow-list and what mmengine's checkpoints hold
    besides; also what mmengine has downloaded.

    Args:
        path: A file, or a URL that mmengine can read.
        map_location: Where tensors go, as in ``torch.load``.
        sha256: What the file's SHA-256 must be, in hexadecimal digits; what is hashed is what is read.

    Raises:
        CheckpointError: There is no such file, or it is damaged, of another kind, or needs code to
            load.
        URLError: It can't be downloaded.
    """
    if '://' in str(path):
        with explained(path):
            return CheckpointLoader.load_checkpoint(os.fspath(path), map_location=map_location)
    path = os.path.expanduser(path)  # as mmengine does
    if not Path(path).is_file():
        raise CheckpointError(f'Checkpoint {path}: {_absence(Path(path))}')
    with open(path, 'rb') as opened:
        file: IO[bytes] = opened
        if sha256 is not None:
            file = io.BytesIO(opened.read())
            _check_sha256(file, sha256, path)
        with explained(path, file):
            return load_restricted(file, map_location)


def _absence(path: Path) -> str:
    """Why there is no file of this name, and what to name in its place."""
    folder, what = (
        (path, 'it is a folder.') if path.is_dir() else (path.parent, 'there is no such file.')
    )
    newest = sorted(folder.glob('*.pth'), key=lambda file: file.stat().st_mtime, reverse=True)[:3]
    if not newest:
        return f'{what} Check the path.'
    return f'{what} The newest checkpoints in {folder}: {", ".join(file.name for file in newest)}.'


def _check_sha256(file: IO[bytes], expected: str, path: str | os.PathLike) -> None:
    """Raise a CheckpointError where a file is another one. The file is at its start afterwards."""
    found = hash_content(file)
    file.seek(0)
    if found != expected:
        raise CheckpointError(
            f'Checkpoint {path}: expected the weights that were exported with this student.py, '
            f'with the SHA-256 {expected}, but this file has {found}; it is truncated, damaged, changed '
            'or belongs to another export. Export the student again; if the weights were changed on '
            'purpose, take weights_sha256 out of student.py.'
        )


def hash_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, 'rb') as file:
        return hash_content(file)


def hash_content(file: IO[bytes]) -> str:
    """The SHA-256 of the rest of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()
