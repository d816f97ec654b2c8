"""The folder in which a fitting leaves what it needs to resume after an interruption."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import barrier

from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.fitting.projected_features import CACHE_PREFIX

from .provenance import hash_json


@contextmanager
def fitting_folder(
    parent: str | os.PathLike, out_dir: str | os.PathLike, identity: str
) -> Iterator[Path]:
    """The folder of one fitting in ``parent``; removed when the block succeeds, and kept if not.

    Fittings for the same ``out_dir`` follow one another: what an earlier one with another identity
    has left is removed. Those for other folders may share ``parent``, also at the same time.

    Args:
        parent: Made as needed; on one disk for all machines, or on each machine's own.
        out_dir: Where the decisions are stored.
        identity: A hash of all that the fitting depends on.
    """
    folder = Path(parent) / f'{_owner(out_dir)}{identity[:12]}'
    with errors_on_all_ranks():
        remove_folders(parent, out_dir, but=folder)
        folder.mkdir(parents=True, exist_ok=True)
    yield folder
    barrier()
    remove_folders(parent, out_dir)


def remove_folders(
    parent: str | os.PathLike, out_dir: str | os.PathLike, but: Path | None = None
) -> None:
    """Remove what fittings for ``out_dir`` have left in ``parent``, except for one folder."""
    if os.environ.get('LOCAL_RANK', '0') != '0':
        return  # one process on each machine
    for left in Path(parent).glob(f'{_owner(out_dir)}*'):
        if left != but:
            shutil.rmtree(left, ignore_errors=True)


def _owner(out_dir: str | os.PathLike) -> str:
    """What the names of all folders of fittings for ``out_dir`` begin with."""
    return f'{CACHE_PREFIX}{hash_json(os.path.abspath(out_dir))[:12]}_'
