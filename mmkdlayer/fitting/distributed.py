"""Collectives of the fitting on top of ``mmengine.dist``; each does nothing in a single process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, TypeVar

import torch
from mmengine import dist
from torch import Tensor

from mmkdlayer.errors import DataError, SavedStateError

from .shortages import explain_shortage

Made = TypeVar('Made')
_PIECE_BYTES = 1 << 26


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Replace a contiguous ``tensor`` by its sum over all ranks, in pieces to bound the memory."""
    if dist.get_world_size() > 1:
        flat = tensor.view(-1)
        for piece in flat.split(max(1, _PIECE_BYTES // tensor.element_size())):
            dist.all_reduce(piece)
    return tensor


def first_rank_decides(tensor: Tensor) -> Tensor:
    """Give every rank the first rank's bits of a contiguous ``tensor``."""
    dist.broadcast(tensor, 0)
    return tensor


def concat_over_ranks(tensor: Tensor) -> Tensor:
    """Concatenate every rank's (n_r, ...) along the first dimension, bit for bit, on every rank.

    Ranks may hold any number of rows. The bytes are summed into a buffer of zeros, so that no
    rank holds more than the result, whatever the number of ranks.
    """
    if dist.get_world_size() == 1:
        return tensor
    lengths = dist.all_gather_object(len(tensor))
    start = sum(lengths[: dist.get_rank()])
    whole = tensor.new_zeros((sum(lengths), *tensor.shape[1:]))
    whole[start : start + len(tensor)] = tensor
    if whole.numel():
        sum_over_ranks(whole.view(-1).view(torch.uint8))
    return whole


def total_on_this_machine(value: int) -> int:
    """The sum of ``value`` over the ranks that run on the same machine as this one."""
    pairs = dist.all_gather_object((socket.gethostname(), value))
    return sum(number for name, number in pairs if name == socket.gethostname())


def from_first_rank(make: Callable[[], Made]) -> Made:
    """What the first rank makes, or its error, on every rank."""
    made: list[Any] = [None]
    with errors_on_all_ranks():
        if dist.is_main_process():
            made[0] = make()
    dist.broadcast_object_list(made)
    return made[0]


@contextmanager
def errors_on_all_ranks() -> Iterator[None]:
    """End all ranks when one of them fails inside, instead of leaving the others in a collective.

    No collective may run inside: a rank that fails before it would be out of step.

    Raises:
        DataError: On the ranks that did not fail themselves, with the message of the one that did; a
            SavedStateError where it was one there.
    """
    failure = message = None
    try:
        yield
    except Exception as error:
        failure = explain_shortage(error) or error
        failure.__cause__ = error if failure is not error else error.__cause__
        message = f'{type(failure).__name__}: {failure}'
    try:
        found = dist.all_gather_object((message, isinstance(failure, SavedStateError)))
    except Exception as error:
        # After an assertion on a GPU nothing works there any more, but the first error says why.
        raise (failure or error) from error
    if failure is not None:
        raise failure
    for rank, (message, is_state) in enumerate(found):
        if message is not None:
            kind = SavedStateError if is_state else DataError
            raise kind(f'Stopped on every rank because rank {rank} failed: {message}')
