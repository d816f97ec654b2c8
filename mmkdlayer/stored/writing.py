"""Writes stored decisions: shards that appear whole, and are there after any interruption."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
from mmengine.logging import MMLogger

from mmkdlayer.atomic import remove_leftovers, replacing
from mmkdlayer.errors import StoreError
from mmkdlayer.fitting.shortages import shortages_of

from .files import (
    DECISIONS,
    MANIFEST,
    PLAN,
    THREADS,
    Shard,
    read_manifest,
    record_type,
    shards_of,
    write_manifest,
)

#: How the file of a shard ends that has its first records alone.
BEGUN = '.begun'


class Writer:
    """Writes the shards of one store; several processes may, each its own shards.

    The plan is what the manifest says but for ``shards``.
    """

    def __init__(self, folder: str | os.PathLike, plan: Mapping[str, Any]) -> None:
        self.folder, self.plan = Path(folder), dict(plan)
        self.record = record_type(plan['fields'])
        self.shards = list(shards_of(plan['images'], plan['views'], plan['shard_images']))

    def start(self) -> None:
        """Write the plan; storing has begun from here on."""
        with shortages_of(self.folder / PLAN):
            write_manifest(self.folder / PLAN, self.plan)

    def clean(self) -> None:
        """Remove what killed processes have left half written."""
        views = (f'view{view:04d}' for view in range(self.plan['views']))
        for name in ('', DECISIONS, *views):
            remove_leftovers(self.folder / name)

    def pending(self, progress: Optional[Callable[[int], object]] = None) -> list[Shard]:
        """The shards that are not there yet. A damaged one is removed, with a warning.

        ``progress`` is called with a number of shards that were looked at.
        """
        found = []
        with ThreadPoolExecutor(THREADS) as pool:
            for shard, path in zip(self.shards, pool.map(self._find, self.shards)):
                if path is None:
                    found.append(shard)
                if progress:
                    progress(1)
        return found

    def begun(self, shard: Shard) -> np.ndarray:
        """The first records of a shard that is not there yet, as far as they were saved."""
        saved = [
            records for path in self._begun(shard) if (records := self._read(path)) is not None
        ]
        return max(saved, key=len, default=np.zeros(0, self.record))

    def save(self, shard: Shard, records: np.ndarray) -> None:
        """Store a shard, or its first records alone, to be there after an interruption.

        Raises:
            ResourceError: The disk is full. What was stored before is still there.
        """
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, records, version=(1, 0), allow_pickle=False)
        content = buffer.getbuffer()
        path = self.folder / shard.file(hashlib.sha256(content).hexdigest())
        if len(records) < shard.images:
            path = path.with_suffix(BEGUN)
        earlier = self._begun(shard)
        with shortages_of(path), replacing(path) as partial:
            partial.write_bytes(content)
        for other in earlier:
            if other != path:
                other.unlink(missing_ok=True)

    def finish(self) -> None:
        """Write the manifest; the store can be read from here on.

        Raises:
            StoreError: Shards are missing.
        """
        paths = [self._paths(shard) for shard in self.shards]
        missing = [shard for shard, there in zip(self.shards, paths) if not there]
        if missing:
            raise StoreError(
                f'{len(missing)} of {len(paths)} files, such as {missing[0].pattern}, are not in '
                f'{self.folder}, though all were written. Where several machines store, --out must be '
                'a folder that they share; start again to store what is missing.'
            )
        files = [
            dict(
                file=str(there[0].relative_to(self.folder).as_posix()),
                images=shard.images,
                bytes=there[0].stat().st_size,
                sha256=_digest_of(there[0]),
            )
            for shard, there in zip(self.shards, paths)
        ]
        with shortages_of(self.folder / MANIFEST):
            write_manifest(self.folder / MANIFEST, dict(self.plan, shards=files))
        (self.folder / PLAN).unlink(missing_ok=True)

    def _paths(self, shard: Shard) -> list[Path]:
        return sorted(self.folder.glob(f'{shard.pattern}.npy'))

    def _begun(self, shard: Shard) -> list[Path]:
        return sorted(self.folder.glob(f'{shard.pattern}{BEGUN}'))

    def _find(self, shard: Shard) -> Optional[Path]:
        """The file of a shard, whose content is what was written."""
        there = self._paths(shard)
        for path in there:
            records = self._read(path) if len(there) == 1 else None
            if records is not None and len(records) == shard.images:
                return path
            path.unlink()
        return None

    def _read(self, path: Path) -> Optional[np.ndarray]:
        """The records of a file; None, with a warning, where they are not what was written."""
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == _digest_of(path):
            records = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            if records.dtype == self.record:
                return records
        MMLogger.get_current_instance().warning(
            f'{path} is not what was written: it was changed or damaged. It is removed, and stored '
            'again.'
        )
        return None


def _digest_of(path: Path) -> str:
    """The SHA-256 that a file's name says."""
    return path.stem.rpartition('-')[2]


def begun_plan(folder: str | os.PathLike) -> Optional[dict[str, Any]]:
    """The plan of what is stored in a folder, finished or not; None for an empty one.

    Raises:
        StoreError: It is damaged.
    """
    for name in (PLAN, MANIFEST):
        path = Path(folder, name)
        if path.exists():
            content = read_manifest(path)
            return {key: content[key] for key in content if key not in ('sha256', 'shards')}
    return None
