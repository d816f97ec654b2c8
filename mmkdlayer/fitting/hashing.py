"""Seeded hashes of feature vectors, which decide what a bounded sample keeps."""

from __future__ import annotations

import torch
from torch import Tensor

# Finalising constants of MurmurHash3 (public domain), as signed 64-bit integers.
_MIX_1 = 0xFF51AFD7ED558CCD - (1 << 64)
_MIX_2 = 0xC4CEB9FE1A85EC53 - (1 << 64)
_ELEMENTS = 1 << 18


def _mix(bits: Tensor) -> Tensor:
    low_31 = (1 << 31) - 1  # >> is arithmetic on signed integers: cut the copied sign bits off
    bits = (bits ^ ((bits >> 33) & low_31)) * _MIX_1
    bits = (bits ^ ((bits >> 33) & low_31)) * _MIX_2
    return bits ^ ((bits >> 33) & low_31)


def _multipliers(number: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-(1 << 63), (1 << 63) - 1, (number,), generator=generator)
    return (drawn | 1).to(device)


def vector_hashes(vectors: Tensor, seed: int) -> Tensor:
    """Hash the float32 bits of each vector: a multilinear hash modulo 2^64, then mixed.

    Args:
        vectors: (..., D), float32.
        seed: Chooses the hash function.

    Returns:
        (...), int64; equal vectors (0 and -0 are equal) have equal hashes.
    """
    rows = vectors.reshape(-1, vectors.shape[-1])
    multipliers = _multipliers(rows.shape[1], seed, rows.device)
    hashes = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    step = max(1, _ELEMENTS // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        part = (rows[start : start + step] + 0.0).contiguous()
        hashes[start : start + step] = (part.view(torch.int32) * multipliers).sum(1)
    return _mix(hashes).view(vectors.shape[:-1])


def position_hashes(features: Tensor, seed: int) -> Tensor:
    """Hash every position of every image, by the content of the whole image and its own place.

    A position is not hashed by its own vector alone, because then all the equal vectors of the
    data (such as the zeros of dead regions) would be in a sample together or not at all.

    Args:
        features: (B, P, D), float32.
        seed: Chooses the hash function.

    Returns:
        (B, P), int64; the same for an image in any batch, in any order and on any rank.
    """
    own = vector_hashes(features, seed)
    place = _multipliers(features.shape[1], seed + 1, features.device)
    image = _mix((own * place).sum(1, keepdim=True))
    return _mix(own + image * place)
