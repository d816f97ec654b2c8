"""The projected features z = A f + b of one rank, on disk between the passes that need them."""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, DataError

from .numerics import rows_per_chunk

#: What the names of folders for projected features begin with.
CACHE_PREFIX = 'mmkdlayer_fitting_'
# Step of the stored numbers: of float32 precision at 1, with room for 256 standard deviations.
STEP = 2.0**-23
_LARGEST = 2.0**31 - 1
_BLOCK_POSITIONS = 1 << 14
# What a file system may need beside the data itself.
_RESERVE = 1 << 26


class ProjectedSpace(NamedTuple):
    """Projects features and stores z as an offset from the mean of its class, in steps of 2^-23.

    Within a class z has unit variance, so an int32 holds the offset with the precision of float32,
    and a table that is counted from it is that of z itself. Every sum of offsets is exact in
    float64 (multiples of 2^-23 below 2^30): sums do not depend on the order of the data or on the
    number of ranks. The product runs in float64, so that the rounded offset does not depend on the
    shape of the batch either.

    Attributes:
        projection: (L, D), float32.
        offset: (L,), float32.
        means: (C, L), float64, mean z of each class.
    """

    projection: Tensor
    offset: Tensor
    means: Tensor

    def store(self, features: Tensor, labels: Tensor) -> Tensor:
        """Project features (B, P, D) of classes (B,) to stored offsets (B, P, L), int32."""
        weight = self.projection.double().t()
        shift = (self.offset.double() - self.means)[labels]
        parts = []
        step = rows_per_chunk(features.shape[1] * features.shape[2], features.device)
        for part, own in zip(features.split(step), shift.split(step)):
            offsets = part.double() @ weight + own[:, None]
            parts.append(offsets.div_(STEP).round_().clamp_(-_LARGEST, _LARGEST).int())
        return torch.cat(parts)

    def restore(self, offsets: Tensor, labels: Tensor) -> Tensor:
        """The stored z (B, P, L), float64, of offsets (B, P, L) of classes (B,)."""
        return offsets.double() * STEP + self.means[labels][:, None]


class _Block(NamedTuple):
    images: int
    positions: int
    checksum: int


class ProjectionCache:
    """Writes (B, P, L) int32 offsets with a label an image, and reads them again in blocks.

    Plain sequential reading and writing, no memory map: mapped pages would count as memory of the
    process.

    Args:
        width: L.
        path: The file. It stays after :meth:`close`.
        expected_bytes: What all the ranks of this machine will write, to check the disk beforehand.
        blocks: What :meth:`state` gave when this file was written: the cache continues from there.

    Raises:
        ConfigError: The disk has not enough space left.
        DataError: The file does not hold what ``blocks`` says.
    """

    def __init__(
        self, width: int, path: Path, expected_bytes: int, blocks: Optional[Tensor] = None
    ) -> None:
        self.width = width
        self._path = path
        self._blocks = [] if blocks is None else [_Block(*row) for row in blocks.tolist()]
        self._waiting: list[tuple[Tensor, Tensor]] = []
        written = sum(self._bytes(block) for block in self._blocks)
        _check_space(path.parent, max(0, expected_bytes - written))
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), 'r+b')
        if os.fstat(self._file.fileno()).st_size < written:
            self._file.close()
            raise DataError(
                f'{path} should hold {written} bytes of projected features from the fitting '
                'that was interrupted, but it is shorter. Start again, and fitting begins anew.'
            )
        # What was written after the state was saved is written again.
        self._file.truncate(written)
        self._file.seek(written)

    def _bytes(self, block: _Block) -> int:
        return 4 * block.images * (1 + block.positions * self.width)

    def write(self, offsets: Tensor, labels: Tensor) -> None:
        """Append (B, P, L) int32 offsets of images with labels (B,)."""
        if self._waiting and self._waiting[0][0].shape[1] != offsets.shape[1]:
            self._flush()
        self._waiting.append((offsets.cpu(), labels.cpu().int()))
        if sum(part.shape[0] * part.shape[1] for part, _ in self._waiting) >= _BLOCK_POSITIONS:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        offsets, labels = (torch.cat(parts) for parts in zip(*self._waiting))
        self._waiting = []
        step = max(1, _BLOCK_POSITIONS // offsets.shape[1])
        for part, own in zip(offsets.split(step), labels.split(step)):
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
        """Offsets (B, P, L), int32, and labels (B,), int64, of one block after the other.

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
            offsets = np.frombuffer(buffer, np.int32, offset=4 * block.images)
            shape = (block.images, block.positions, self.width)
            yield torch.from_numpy(offsets).view(shape), torch.from_numpy(labels).long()

    def close(self) -> None:
        """Close the file."""
        self._waiting, self._blocks = [], []
        self._file.close()


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


def _check_space(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < size + _RESERVE:
        raise ConfigError(
            f'Fitting needs {size / 2**30:.2f} GiB of disk for projected features in cache_dir '
            f'{str(directory)!r}, but {free / 2**30:.2f} GiB are free there. Make room or set '
            'cache_dir to a directory on a larger disk.'
        )
