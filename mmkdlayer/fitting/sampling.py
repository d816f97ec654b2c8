"""A bounded sample of streamed vectors that depends on their content only."""

from __future__ import annotations

from typing import Any, Optional

import torch
from mmengine import dist
from torch import Tensor

from mmkdlayer.errors import ConfigError

from .distributed import concat_over_ranks, sum_over_ranks
from .numerics import rows_per_chunk

_LARGEST = (1 << 63) - 1
_SMALLEST = -(1 << 63)
# What a sample keeps beside each vector: its hash and its group.
_EXTRA_BYTES = 12
# Rows of one piece of a saved sample take this many bytes.
_PIECE_BYTES = 1 << 26
# Room for vectors that wait to be weighed against the sample, as a share of it.
_SLACK = 0.125
# Room to begin with, and for those that wait, at least.
_FIRST_ROWS = 1024
# Finalising constants of MurmurHash3 (public domain), as signed 64-bit integers.
_MIX_1 = 0xFF51AFD7ED558CCD - (1 << 64)
_MIX_2 = 0xC4CEB9FE1A85EC53 - (1 << 64)


class HashSample:
    """Keeps the float32 vectors (D,) with the smallest hashes, at most ``capacity`` in each group.

    Which vectors are kept, and their order, does not depend on the sizes or the order of the
    batches, nor on how the data is split over ranks. Everything is kept while it fits. The rows
    live in host memory, ``num_groups * capacity * (1 + 1/8)`` of them at most.
    """

    def __init__(self, capacity: int, width: int, num_groups: int = 1) -> None:
        self.capacity = capacity
        limit = capacity * num_groups
        self._most = limit + max(_FIRST_ROWS, int(limit * _SLACK))
        self._rows = torch.empty(0, width)
        self._hashes = torch.empty(0, dtype=torch.int64)
        self._groups = torch.empty(0, dtype=torch.int32)
        self._thresholds = torch.full((num_groups,), _LARGEST)
        self._length = 0

    def make_room(self, length: int) -> None:
        """Room for ``length`` rows, as far as there may be so many: small data takes little memory.

        All of it, or less than half and then at least twice as much as before. The system gives pages
        only when they are first written, so that copying never takes more of them than all the room.
        """
        if length <= len(self._rows) or len(self._rows) == self._most:
            return
        room = max(length, 2 * len(self._rows), _FIRST_ROWS)
        room = room if 2 * room <= self._most else self._most
        for name in ('_rows', '_hashes', '_groups'):
            old = getattr(self, name)
            new = old.new_empty((room, *old.shape[1:]))
            new[: self._length] = old[: self._length]
            setattr(self, name, new)

    def add(self, rows: Tensor, hashes: Tensor, groups: Optional[Tensor] = None) -> None:
        """Offer rows (n, D), with hashes (n,), int64, and groups (n,), int64; None is group 0.

        What is on a device is waited for twice: for the hashes, and for the rows that are wanted.
        """
        hashes = hashes.cpu()
        groups = torch.zeros_like(hashes) if groups is None else groups.cpu()
        wanted = hashes <= self._thresholds[groups]
        if not wanted.all():
            hashes, groups = hashes[wanted], groups[wanted]
            rows = rows.index_select(0, wanted.nonzero()[:, 0].to(rows.device))
        rows, start = rows.cpu(), 0
        self.make_room(self._length + len(rows))
        while start < len(rows):
            if self._length == len(self._rows):
                self._prune()
            end = min(len(rows), start + len(self._rows) - self._length)
            place = slice(self._length, self._length + end - start)
            self._rows[place] = rows[start:end]
            self._hashes[place] = hashes[start:end]
            self._groups[place] = groups[start:end].to(self._groups)
            self._length, start = place.stop, end

    def collect(self) -> tuple[Tensor, Tensor]:
        """Merge the samples of all ranks; this object is used up.

        Returns:
            Rows (n, D), sorted by group and then by hash, and counts (G,); the same on every rank and
            for any number of ranks.
        """
        self._prune()
        if dist.get_world_size() > 1:
            limits = self._limits_over_ranks()
            self._compact(self._hashes[: self._length] <= limits[self._groups[: self._length]])
            for name in ('_hashes', '_groups', '_rows'):
                # In two steps, so that the room of the sample is free before the merged one comes.
                setattr(self, name, getattr(self, name)[: self._length].clone())
                setattr(self, name, concat_over_ranks(getattr(self, name)))
            self._length = len(self._rows)
            self._prune()
        rows, order, counts = self._rows[: self._length], self._order(), self._counts()
        columns = 64 // rows.element_size()  # one cache line of each row
        for part in rows.split(columns, dim=1):
            part.copy_(part[order])  # some columns at a time, to do without a second copy
        return rows, counts

    def _prune(self) -> None:
        """Drop what is over the capacity of its group and lower the thresholds to what is left."""
        order, counts = self._order(), self._counts()
        ends = counts.cumsum(0)
        ranks = torch.arange(self._length) - (ends - counts).repeat_interleave(counts)
        full = counts >= self.capacity
        last = order[(ends - counts)[full] + self.capacity - 1]
        self._thresholds[full] = self._hashes[last]
        keep = torch.zeros(self._length, dtype=torch.bool)
        keep[order] = ranks < self.capacity
        self._compact(keep)

    def _order(self) -> Tensor:
        order = torch.argsort(self._hashes[: self._length], stable=True)
        if len(self._thresholds) > 1:
            order = order[torch.argsort(self._groups[: self._length][order], stable=True)]
        return order

    def _counts(self) -> Tensor:
        return torch.bincount(self._groups[: self._length], minlength=len(self._thresholds))

    def _compact(self, keep: Tensor) -> None:
        """Move the kept rows to the front without a second copy of the sample."""
        length = int(keep.sum())
        holes = (~keep[:length]).nonzero().squeeze(1)
        movers = keep[length:].nonzero().squeeze(1) + length
        for tensor in (self._rows, self._hashes, self._groups):
            tensor[holes] = tensor[movers]
        self._length = length

    def _limits_over_ranks(self) -> Tensor:
        """The smallest hash in each group below which all ranks together fill its capacity.

        Found by bisection, so that only G counts travel in each of 64 steps.
        """
        groups, hashes = self._groups[: self._length].long(), self._hashes[: self._length]
        low = torch.full_like(self._thresholds, _SMALLEST)
        high = torch.full_like(self._thresholds, _LARGEST)
        if (sum_over_ranks(self._counts()) <= self.capacity).all():
            return high
        for _ in range(64):
            middle = (low & high) + ((low ^ high) >> 1)  # (low + high) / 2 without overflow
            below = torch.bincount(groups[hashes <= middle[groups]], minlength=len(low))
            enough = sum_over_ranks(below) >= self.capacity
            high = torch.where(enough, middle, high)
            low = torch.where(enough, low, middle + 1)
        return high

    def state(self) -> dict[str, Any]:
        """The sample so far; its rows in pieces, so that restoring takes no second copy."""
        rows = self._rows[: self._length]
        step = max(1, _PIECE_BYTES // max(1, rows.shape[1] * rows.element_size()))
        return dict(
            rows={str(number): piece for number, piece in enumerate(rows.split(step))},
            hashes=self._hashes[: self._length],
            groups=self._groups[: self._length],
            thresholds=self._thresholds,
            capacity=torch.tensor(self.capacity),
        )

    @classmethod
    def restored(cls, state: dict[str, Any]) -> HashSample:
        """Continue from what :meth:`state` gave; its pieces are released one after the other."""
        rows, length = state['rows'], len(state['hashes'])
        sample = cls(int(state['capacity']), rows['0'].shape[1], len(state['thresholds']))
        sample.make_room(length)
        sample._length = length
        sample._hashes[:length] = state['hashes']
        sample._groups[:length] = state['groups']
        sample._thresholds.copy_(state['thresholds'])
        start = 0
        for number in range(len(rows)):
            piece = rows.pop(str(number))
            sample._rows[start : start + len(piece)] = piece
            start += len(piece)
        return sample


def make_sample(memory_budget: int, width: int, num_groups: int, least: int) -> HashSample:
    """A sample of vectors of D = ``width`` channels that takes ``memory_budget`` bytes at most.

    Raises:
        ConfigError: It holds fewer than ``least`` vectors (clusters to fit) in each of the groups.
    """
    capacity = memory_budget // (num_groups * (4 * width + _EXTRA_BYTES))
    if capacity < least:
        classes = f' for each of {num_groups} classes' if num_groups > 1 else ''
        raise ConfigError(
            f'A memory_budget of {memory_budget} bytes holds {capacity} vectors of {width} '
            f'channels{classes}, fewer than the {least} clusters to fit. Raise memory_budget.'
        )
    return HashSample(capacity, width, num_groups)


class PositionHashes:
    """Hashes every position of every image, by the content of the whole image and its own place.

    A position is not hashed by its own vector alone, because then all the equal vectors of the
    data (such as the zeros of dead regions) would be in a sample together or not at all.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        # Made once: a device would get them from the host in every batch.
        self._multipliers: dict[tuple[int, int, torch.device], Tensor] = {}

    def __call__(self, features: Tensor) -> Tensor:
        """Hashes (B, P), int64, for features (B, P, D), float32.

        They are the same for an image in any batch, in any order and on any rank.
        """
        own = _hashes(features, self._of(features, 2, self._seed))
        place = self._of(features, 1, self._seed + 1)
        image = _mix((own * place).sum(1, keepdim=True))
        return _mix(own + image * place)

    def _of(self, features: Tensor, dim: int, seed: int) -> Tensor:
        key = features.shape[dim], seed, features.device
        if key not in self._multipliers:
            self._multipliers[key] = _draw_multipliers(*key)
        return self._multipliers[key]


def vector_hashes(vectors: Tensor, seed: int) -> Tensor:
    """Hash the float32 bits of each vector: a multilinear hash modulo 2^64, then mixed.

    Returns:
        (...), int64, for vectors (..., D), float32; equal ones (0 and -0 are equal) have equal hashes.
    """
    return _hashes(vectors, _draw_multipliers(vectors.shape[-1], seed, vectors.device))


def _hashes(vectors: Tensor, multipliers: Tensor) -> Tensor:
    rows = vectors.reshape(-1, vectors.shape[-1])
    hashes = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    step = rows_per_chunk(4 * rows.shape[1], rows.device)  # of 8-byte integers
    for start in range(0, len(rows), step):
        part = (rows[start : start + step] + 0.0).contiguous()
        hashes[start : start + step] = (part.view(torch.int32) * multipliers).sum(1)
    return _mix(hashes).view(vectors.shape[:-1])


def _draw_multipliers(number: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-(1 << 63), (1 << 63) - 1, (number,), generator=generator)
    return (drawn | 1).to(device)


def _mix(bits: Tensor) -> Tensor:
    low_31 = (1 << 31) - 1  # >> is arithmetic on signed integers: cut the copied sign bits off
    bits = (bits ^ ((bits >> 33) & low_31)) * _MIX_1
    bits = (bits ^ ((bits >> 33) & low_31)) * _MIX_2
    return bits ^ ((bits >> 33) & low_31)
