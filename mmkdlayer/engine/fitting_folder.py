"""The folder in which a fitting leaves what it needs to go on after an interruption."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import barrier

from mmkdlayer.fitting.cache import CACHE_PREFIX

from .feature_stream import FeatureStream
from .fingerprints import hash_json
from .provenance import installed_versions


def fitting_identity(expected: Mapping[str, Any], stream: FeatureStream) -> str:
    """A hash of all that the state of a fitting depends on.

    Args:
        expected: Provenance of each decision of the model, fitted already or not.
        stream: The data, in the batches that are counted.
    """
    facts = dict(expected, batch_size=stream.loader.batch_size, versions=installed_versions())
    return hash_json(facts)


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
    owner = f'{CACHE_PREFIX}{hash_json(os.path.abspath(out_dir))[:12]}_'
    folder = Path(parent) / f'{owner}{identity[:12]}'
    is_first_here = os.environ.get('LOCAL_RANK', '0') == '0'
    if is_first_here:
        for left in Path(parent).glob(f'{owner}*'):
            if left != folder:
                shutil.rmtree(left, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    barrier()
    yield folder
    barrier()
    if is_first_here:
        shutil.rmtree(folder, ignore_errors=True)
