"""The folder in which a fitting leaves what it needs to go on after an interruption."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_world_size

from mmkdlayer.fitting.cache import CACHE_PREFIX
from mmkdlayer.fitting.distributed import errors_on_all_ranks

from .feature_stream import FeatureStream
from .fingerprints import hash_json
from .provenance import installed_versions


def fitting_identity(
    expected: Mapping[str, Any], settings: Mapping[str, Any], stream: FeatureStream
) -> str:
    """A hash of all that the state of a fitting depends on.

    Args:
        expected: Provenance of each decision of the model, fitted already or not.
        settings: Sizes of each decision, as the config has them.
        stream: The data, in the batches that are counted.
    """
    facts = dict(
        expected=expected,
        settings=settings,
        batch_size=stream.loader.batch_size,
        ranks=get_world_size(),  # each rank's files hold its share
        versions=installed_versions(),
    )
    return hash_json(facts)


def _owner(out_dir: str | os.PathLike) -> str:
    """What the names of all folders of fittings for ``out_dir`` begin with."""
    return f'{CACHE_PREFIX}{hash_json(os.path.abspath(out_dir))[:12]}_'


def _is_first_here() -> bool:
    return os.environ.get('LOCAL_RANK', '0') == '0'


def remove_folders(
    parent: str | os.PathLike, out_dir: str | os.PathLike, but: Path | None = None
) -> None:
    """Remove what fittings for ``out_dir`` have left in ``parent``, but for one folder."""
    if _is_first_here():
        for left in Path(parent).glob(f'{_owner(out_dir)}*'):
            if left != but:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def fitting_folder(
    parent: str | os.PathLike, out_dir: str | os.PathLike, identity: str
) -> Iterator[Path]:
    """The folder of one fitting in ``parent``; it goes when the block ends well, and stays if not.

    Fittings for the same ``out_dir`` follow one another: what an earlier one with another identity
    has left is removed. Those for other folders may share ``parent``, also at the same time.

    Args:
        parent: Made as needed; on one disk for all machines, or on each machine's own.
        out_dir: Where the decisions go.
        identity: See :func:`fitting_identity`.
    """
    folder = Path(parent) / f'{_owner(out_dir)}{identity[:12]}'
    with errors_on_all_ranks():
        remove_folders(parent, out_dir, but=folder)
        folder.mkdir(parents=True, exist_ok=True)
    yield folder
    barrier()
    remove_folders(parent, out_dir)
