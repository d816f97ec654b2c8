"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file beside its place, then put it there: a reader sees the old one or the new one, whole.

    Args:
        path: Where the file goes; its folder is made as needed.

    Yields:
        The empty file to write. Nothing of it stays where the block fails.

    Raises:
        OSError: The folder can't be made or written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f'.{target.stem}.', suffix=target.suffix
    )
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open('rb') as written:
            os.fsync(written.fileno())
        # mkstemp makes the file private; give it the rights that a plain open would.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
