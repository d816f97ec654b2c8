"""The projected features z = A f + b of one rank, on disk between the passes that need them."""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor

from mmkdlayer.errors import ConfigError, ResourceError, SavedStateError

from .numerics import rows_per_chunk
from .shortages import explain_shortage, in_units, shortages_of

#: What the names of folders for projected features begin with.
CACHE_PREFIX = 'mmkdlayer_fitting_'
# Step of the stored numbers: of float32 precision at 1, with room for 256 standard deviations.
STEP = 2.0**-23
_LARGEST = 2.0**31 - 1
# Largest number of positions that are written and read at once.
_BLOCK_POSITIONS = 1 << 14
# What a file system may need beside the data itself.
_RESERVE = 1 << 26


class ProjectedFeatures:
    """Projects features to z = A f + b and keeps z in a file, as an offset from the mean of its class.

    Offsets are stored in steps of 2^-23. Within a class z has unit variance, so an int32 holds the
    offset with the precision of float32, and a table that is counted from it is that of z itself.
    Every sum of offsets is exact in float64 (multiples of 2^-23 below 2^30): sums do not depend on the
    order of the data or on the number of ranks. The product runs in float64, so that the rounded
    offset does not depend on the shape of the batch either.

    The file is written and read sequentially, with no memory map: mapped pages would count as memory
    of the process.

    Args:
        projection: A (L, D), float32.
        offset: b (L,), float32.
        means: (C, L), float64, mean z of each class.
        path: The file. It stays after :meth:`close`.
        positions: How many all the ranks of this machine will write, to check the disk beforehand.
        blocks: What :meth:`state` gave when this file was written: writing continues from there.

    Raises:
        ResourceError: The disk has not enough space left.
        SavedStateError: The file does not hold what ``blocks`` says, or is a link.
    """

    def __init__(
        self,
        projection: Tensor,
        offset: Tensor,
        means: Tensor,
        path: Path,
        positions: int = 0,
        blocks: Optional[Tensor] = None,
    ) -> None:
        self.projection, self.offset, self.means = projection, offset, means
        self._path = path
        # Images, positions of each, checksum.
        self._blocks: list[list[int]] = [] if blocks is None else blocks.tolist()
        written = sum(self._bytes(*block[:2]) for block in self._blocks)
        # Each image has a label, and one position at least.
        expected = positions * (4 * len(offset) + 4)
        _check_space(path.parent, max(0, expected - written))
        # No link is followed to a file of someone else.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0)
        try:
            self._file = os.fdopen(os.open(path, flags, 0o600), 'r+b')
        except OSError as error:
            if explain_shortage(error):
                raise
            raise SavedStateError(
                f'The cache of projected features can not be opened ({error}).'
            ) from error
        if os.fstat(self._file.fileno()).st_size < written:
            self._file.close()
            raise SavedStateError(
                f'{path} should hold {written} bytes of projected features from the fitting '
                'that was interrupted, but it is shorter.'
            )
        # What was written after the state was saved is written again.
        self._file.truncate(written)
        self._file.seek(written)

    def _bytes(self, images: int, positions: int) -> int:
        return 4 * images * (1 + positions * len(self.offset))

    def write(self, features: Tensor, labels: Tensor) -> Tensor:
        """Project features (B, P, D) of classes (B,) and append them to the file.

        Returns:
            What was stored: offsets (B, P, L), int32, in steps of ``STEP``, on the CPU.
        """
        offsets, labels = self.project(features, labels).cpu(), labels.cpu().int()
        step = max(1, _BLOCK_POSITIONS // offsets.shape[1])
        for start in range(0, len(offsets), step):
            part, own = offsets[start : start + step].contiguous(), labels[start : start + step]
            data = own.numpy().tobytes() + part.numpy().tobytes()
            with shortages_of(self._path):
                self._file.write(data)
            self._blocks.append([*part.shape[:2], zlib.crc32(data)])
        return offsets

    def project(self, features: Tensor, labels: Tensor) -> Tensor:
        """The offsets (B, P, L), int32, of features (B, P, D) of classes (B,)."""
        weight = self.projection.double().t()
        shift = (self.offset.double() - self.means)[labels.to(self.means.device)]
        parts = []
        step = rows_per_chunk(features.shape[1] * features.shape[2], features.device)
        for part, own in zip(features.split(step), shift.split(step)):
            offsets = part.double() @ weight + own[:, None]
            parts.append(offsets.div_(STEP).round_().clamp_(-_LARGEST, _LARGEST).int())
        return torch.cat(parts)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Offsets (B, P, L), int32, and labels (B,), int64, of one block after the other.

        Raises:
            SavedStateError: What is read is not what was written.
        """
        self._file.seek(0)
        for images, positions, checksum in self._blocks:
            data = self._file.read(self._bytes(images, positions))
            if zlib.crc32(data) != checksum:
                raise SavedStateError(
                    f'The cache of projected features {self._path} was changed while fitting used '
                    'it, or its disk is damaged: a checksum differs. If that happens again, set '
                    'cache_dir to a folder on another disk.'
                )
            numbers = torch.frombuffer(bytearray(data), dtype=torch.int32).to(self.means.device)
            yield numbers[images:].view(images, positions, -1), numbers[:images].long()

    def state(self) -> dict[str, Tensor]:
        """The arguments that continue here; what was written is surely on disk then."""
        with shortages_of(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
        blocks = torch.tensor(self._blocks, dtype=torch.int64).view(-1, 3)
        return dict(projection=self.projection, offset=self.offset, means=self.means, blocks=blocks)

    def close(self) -> None:
        """Close the file; what is not written yet is not needed."""
        with suppress(OSError):
            self._file.close()


def make_folder(directory: Optional[str]) -> tempfile.TemporaryDirectory:
    """A directory of our own in ``directory`` (None: the system's) that is removed with the object.

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
        raise ResourceError(
            f'Fitting needs {in_units(size + _RESERVE)} of disk in cache_dir {str(directory)!r} '
            f'({in_units(size)} for projected features and {in_units(_RESERVE)} in reserve), but '
            f'{in_units(free)} are free there. Make room or set cache_dir to a directory on a larger '
            'disk.'
        )
