"""Load mmengine's checkpoints where ``torch.load`` defaults to ``weights_only=True`` (torch 2.6).

mmengine stores its log history in every checkpoint, so resuming, loading and testing all fail on
it. What such a checkpoint holds besides tensors is put on torch's allow-list; ``weights_only``
itself stays on.

Allowed are

* ``HistoryBuffer``, the log history: :func:`set_history` fills in its attributes;
* ``argparse.Namespace``, the options of a training by timm or torchvision's scripts: attributes alone;
* numpy's ``_reconstruct`` and ``ndarray``, the arrays in it: an empty one is made, bytes copied in;
* numpy's ``scalar``, for the best score and the remaining time: makes a number of bytes;
* numpy's ``dtype``, answered by :func:`number_type`: numbers and bools, not the object and record
  types. The state that a file gives a type does nothing to these, but could make others count
  references in numbers, which is memory of anyone's choice. Text is read by
  :mod:`mmkdlayer.checkpoints` alone, which looks at the state;
* the *name* ``builtins.getattr``, through which HistoryBuffer pickles its methods (min, max,
  current, mean): :func:`history_statistic` answers to it, which gives those and nothing else;
* the *name* ``builtins.bytes``, for the numbers of an empty array: :func:`empty_bytes`.
"""

from __future__ import annotations

import re
from argparse import Namespace
from functools import cache
from pickle import UnpicklingError
from typing import Any, Callable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

STATISTICS = ('min', 'max', 'current', 'mean')
# Types of scalars and of their arrays, by the codes that pickles have for them.
NUMBERS = ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')


class RefusedPickleError(UnpicklingError):
    """A file asks for something that is not allowed."""


def allow_mmengine_checkpoints() -> None:
    """Put what mmengine's checkpoints hold on torch's allow-list, where torch has one.

    For whoever reads with ``torch.load``: :mod:`mmkdlayer.checkpoints`, mmengine's reader too, needs no
    such list.
    """
    add_safe_globals = getattr(torch.serialization, 'add_safe_globals', None)
    if add_safe_globals is not None:
        add_safe_globals(list(safe_globals()))


@cache
def safe_globals() -> tuple[Any, ...]:
    """Return what is allowed: classes, and functions under the name that a checkpoint has for them."""
    # Cached: the same objects each time, so that allowing them again adds nothing.
    scalar = np.float32().__reduce__()[0]
    functions = [_named(history_statistic, 'builtins', 'getattr')]
    functions.append(_named(empty_bytes, 'builtins', 'bytes'))
    # numpy 2 moved these: a checkpoint written with one numpy must load with the other.
    for module in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        functions.append(_named(empty_array, module, '_reconstruct'))
        functions.append(_named(scalar, module, 'scalar'))
    functions.append(_named(number_type, 'numpy', 'dtype'))
    return (
        HistoryBuffer,
        Namespace,
        np.ndarray,
        *{type(np.dtype(code)) for code in NUMBERS},
        *functions,
    )


def keep_history_statistics() -> None:
    """Let a HistoryBuffer that is read leave the class as it is: its own ``__setstate__`` does not.

    That takes methods from the file for all buffers of the process, so a file could falsify its logs.
    """
    HistoryBuffer.__setstate__ = set_history


def set_history(history: HistoryBuffer, state: dict[str, Any]) -> None:
    """Give a HistoryBuffer its attributes back, but none that stands for a method or for the class's.

    Raises:
        RefusedPickleError: Its values or their counts are no arrays of numbers of the same length.
    """
    own = {name: value for name, value in state.items() if not hasattr(type(history), name)}
    own.pop('statistics_methods', None)
    arrays: list[Any] = [own.get(name) for name in ('_log_history', '_count_history')]
    numeric = all(isinstance(array, np.ndarray) and array.dtype.kind in 'biuf' for array in arrays)
    if not numeric or arrays[0].shape != arrays[1].shape or arrays[0].ndim != 1:
        raise RefusedPickleError('it holds a log history without its values and their counts')
    history._set_default_statistics()
    vars(history).update(own)


def number_type(code: str, *options: Any) -> np.dtype:
    """Stand in for ``numpy.dtype``: numpy's only object of a type, not the copy that pickles ask for.

    Raises:
        RefusedPickleError: It is none of numbers, bools or text.
    """
    if code not in NUMBERS and not re.fullmatch(r'U\d{1,6}', str(code)):
        raise RefusedPickleError(f'it asks for an array of the type {code!r}, which is not allowed')
    return np.dtype(code)


def empty_bytes() -> bytes:
    """Stand in for ``bytes``, which protocol 2 calls for those of an empty array."""
    return b''


def empty_array(kind: type, shape: tuple[int, ...], dtype: bytes) -> np.ndarray:
    """Stand in for numpy's ``_reconstruct``, which makes an empty array, to be filled from the file.

    Raises:
        RefusedPickleError: Another size is asked for, which numpy does not write, and could be any.
    """
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise RefusedPickleError(f'it asks for an array {kind!r} of shape {shape!r}, not of (0,)')
    return np.empty(0, dtype='b')


def history_statistic(owner: type, name: str) -> Callable[..., Any]:
    """Stand in for ``getattr`` while a checkpoint is read: only HistoryBuffer's own statistics.

    Raises:
        RefusedPickleError: If anything else is asked for.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise RefusedPickleError(
            f'it asks for getattr({owner!r}, {name!r}), which could run code: allowed are '
            f'{", ".join(STATISTICS)} of mmengine HistoryBuffer'
        )
    statistic: Callable[..., Any] = getattr(HistoryBuffer, name)
    return statistic


def _named(function: Any, module: str, name: str) -> Callable[..., Any]:
    """Wrap ``function``, since torch's allow-list goes by name (later releases also take pairs)."""

    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__ = module
    call.__name__ = call.__qualname__ = name
    return call
