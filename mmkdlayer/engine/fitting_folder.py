"""The folder with the state and the cache of one fitting: whose it is, and when it goes."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import barrier

from mmkdlayer.errors import ConfigError
from mmkdlayer.fitting.distributed import errors_on_all_ranks
from mmkdlayer.fitting.projected_features import CACHE_PREFIX

from .fingerprints import hash_json


@contextmanager
def fitting_folder(
    parent: str | os.PathLike, out_dir: str | os.PathLike, identity: str
) -> Iterator[Path]:
    """The folder of one fitting in ``parent``; removed when the block succeeds, and kept if not.

    Fittings for the same ``out_dir`` follow one another: what an earlier one with another identity
    has left is removed. Those for other folders may share ``parent``, also at the same time. It is
    made as needed, on one disk for all machines or on each machine's own, for its owner alone.

    Raises:
        ConfigError: The folder is a link, or another user's.
    """
    folder = Path(parent) / f'{folder_prefix(out_dir)}{identity[:12]}'
    with errors_on_all_ranks():
        remove_folders(parent, out_dir, but=folder)
        make_private(folder)
    yield folder
    barrier()
    remove_folders(parent, out_dir)


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can use, or see to it that the one which is there is that.

    Anyone could have made it where others may write too, with links to files of ours in it.

    Raises:
        ConfigError: It is a link, no folder, or another user's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
        return
    except FileExistsError:
        found = folder.lstat()
    try:
        # Our number may be another one there (network file systems, containers).
        with tempfile.TemporaryFile(dir=folder) as probe:
            ours = os.fstat(probe.fileno()).st_uid
    except OSError:
        ours = None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != ours:
        raise ConfigError(
            f'{folder} is for the state of a fitting, but it is '
            f'{"a link" if stat.S_ISLNK(found.st_mode) else "no folder of this user"}. Someone else '
            'has made it: remove it, or set cache_dir of FitDecisionsHook to a folder of your own.'
        )
    folder.chmod(0o700)


def remove_folders(
    parent: str | os.PathLike, out_dir: str | os.PathLike, but: Path | None = None
) -> None:
    """Remove what fittings for ``out_dir`` have left in ``parent``, except for one folder."""
    if os.environ.get('LOCAL_RANK', '0') != '0':
        return  # one process on each machine
    for left in Path(parent).glob(f'{folder_prefix(out_dir)}*'):
        if left == but:
            continue
        if left.is_symlink() or left.is_file():
            left.unlink(missing_ok=True)
        else:
            shutil.rmtree(left, ignore_errors=True)


def folder_prefix(out_dir: str | os.PathLike) -> str:
    """What the names of all folders of this user's fittings for ``out_dir`` begin with."""
    user = getattr(os, 'getuid', int)()
    return f'{CACHE_PREFIX}{hash_json([user, os.path.realpath(out_dir)])[:12]}_'
