"""Projected features of one rank on disk, between the passes that need them."""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError

CACHE_PREFIX = 'mmkdlayer_fitting_'
_BLOCK_POSITIONS = 1 << 14
# What a file system may need beside the data itself.
_RESERVE = 1 << 26


class _Block(NamedTuple):
    images: int
    positions: int
    checksum: int


class ProjectionCache:
    """Writes (B, P, L) int32 vectors with a label an image, and reads them again in blocks.

    Plain sequential reading and writing, no memory map: mapped pages would count as memory of the
    process.

    Args:
        width: L.
        directory: Where to put it; None is the system's directory for temporary files.
        expected_bytes: What all the ranks of this machine will write, to check the disk beforehand.
        name: The file's name in ``directory``, where it stays after :meth:`close`. None makes a
            directory of its own that disappears with :meth:`close`, or at the latest with the
            process unless that is killed.
        blocks: What :meth:`state` gave when the file of this name was written: the cache goes on
            from there.

    Raises:
        ConfigError: The directory cannot be written to, or its disk has not enough space left.
        DataError: The file does not hold what ``blocks`` says.
    """

    def __init__(
        self,
        width: int,
        directory: Optional[str],
        expected_bytes: int,
        name: Optional[str] = None,
        blocks: Optional[Tensor] = None,
    ) -> None:
        self.width = width
        self._own_folder = make_folder(directory) if name is None else None
        folder = Path(self._own_folder.name if self._own_folder else str(directory))
        self._path = folder / (name or 'projected_features.bin')
        self._blocks = [] if blocks is None else [_Block(*row) for row in blocks.tolist()]
        written = sum(self._bytes(block) for block in self._blocks)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        try:
            check_space(folder, max(0, expected_bytes - written))
            self._file: BinaryIO = os.fdopen(
                os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666), 'r+b'
            )
        except ConfigError:
            if self._own_folder is not None:
                self._own_folder.cleanup()
            raise
        if os.fstat(self._file.fileno()).st_size < written:
            self._file.close()
            raise DataError(
                f'{self._path} should hold {written} bytes of projected features from the fitting '
                'that was interrupted, but it is shorter. Start again, and fitting begins anew.'
            )
        # What was written after the state was saved is written again.
        self._file.truncate(written)
        self._file.seek(written)

    def _bytes(self, block: _Block) -> int:
        return 4 * block.images * (1 + block.positions * self.width)

    def write(self, vectors: Tensor, labels: Tensor) -> None:
        """Append (B, P, L) int32 vectors of images with labels (B,)."""
        if self._waiting and self._waiting[0][0].shape[1] != vectors.shape[1]:
            self._flush()
        self._waiting.append((vectors.cpu(), labels.cpu().int()))
        if sum(part.shape[0] * part.shape[1] for part, _ in self._waiting) >= _BLOCK_POSITIONS:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        vectors = torch.cat([part for part, _ in self._waiting])
        labels = torch.cat([part for _, part in self._waiting])
        self._waiting = []
        step = max(1, _BLOCK_POSITIONS // vectors.shape[1])
        for part, own in zip(vectors.split(step), labels.split(step)):
            data = own.numpy().tobytes() + part.contiguous().numpy().tobytes()
            self._file.write(data)
            self._blocks.append(_Block(part.shape[0], part.shape[1], zlib.crc32(data)))

    def state(self) -> Tensor:
        """What is on disk now, surely: (number of blocks, 3), int64, for ``blocks``."""
        self._flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        return torch.tensor(self._blocks, dtype=torch.int64).view(-1, 3)

    def __len__(self) -> int:
        """Number of blocks."""
        self._flush()
        return len(self._blocks)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Vectors (B, P, L), int32, and labels (B,), int64, of one block after the other.

        Raises:
            DataError: What is read is not what was written.
        """
        self._flush()
        self._file.seek(0)
        for block in self._blocks:
            data = self._file.read(self._bytes(block))
            if zlib.crc32(data) != block.checksum:
                raise DataError(
                    f'The cache of projected features {self._path} was changed while fitting used '
                    'it, or its disk is damaged: a checksum differs. Remove its folder and fit '
                    'again, with cache_dir on another disk if it happens again.'
                )
            buffer = bytearray(data)
            labels = np.frombuffer(buffer, np.int32, block.images)
            vectors = np.frombuffer(buffer, np.int32, offset=4 * block.images)
            shape = (block.images, block.positions, self.width)
            yield torch.from_numpy(vectors).view(shape), torch.from_numpy(labels).long()

    def close(self) -> None:
        """Close the file, and remove it if it has no name of its own."""
        self._waiting, self._blocks = [], []
        self._file.close()
        if self._own_folder is not None:
            self._own_folder.cleanup()


def bytes_needed(positions: int, width: int) -> int:
    """Upper limit of the disk space that ``positions`` vectors of ``width`` components take."""
    return positions * (4 * width + 4)


def make_folder(directory: Optional[str]) -> tempfile.TemporaryDirectory:
    """A directory of our own in ``directory`` that is removed with the object.

    Args:
        directory: None is the system's directory for temporary files.

    Raises:
        ConfigError: There is no such directory, or it cannot be written to.
    """
    try:
        return tempfile.TemporaryDirectory(prefix=CACHE_PREFIX, dir=directory)
    except OSError as error:
        raise ConfigError(
            f'Fitting stores projected features in cache_dir {directory!r}, which must be a '
            f'directory that exists and can be written to, but: {error}. Set cache_dir to one.'
        ) from error


def check_space(directory: Path, size: int) -> None:
    """Check that ``size`` bytes can be written in ``directory``.

    Raises:
        ConfigError: They cannot.
    """
    free = shutil.disk_usage(directory).free
    if free < size + _RESERVE:
        raise ConfigError(
            f'Fitting needs {size / 2**30:.2f} GiB of disk for projected features in cache_dir '
            f'{str(directory)!r}, but {free / 2**30:.2f} GiB are free there. Make room or set '
            'cache_dir to a directory on a larger disk.'
        )
