"""Load mmengine's checkpoints where ``torch.load`` defaults to ``weights_only=True`` (torch 2.6).

mmengine stores its log history in every checkpoint, so resuming, loading and testing all fail on
it. What such a checkpoint holds besides tensors is put on torch's allow-list; ``weights_only``
itself stays on.

Allowed are

* ``HistoryBuffer``, the log history: its ``__setstate__`` only fills in attributes;
* numpy's ``_reconstruct`` and ``ndarray``, the arrays in it: memory is allocated, bytes copied in;
* numpy's ``scalar``, for the best score and the remaining time: makes a number of bytes;
* numpy's ``dtype`` and its types of numbers, bools and strings; not the object and record types;
* the *name* ``builtins.getattr``, through which HistoryBuffer pickles its methods (min, max,
  current, mean): :func:`history_statistic` answers to it, which gives those and nothing else.
"""

from __future__ import annotations

from functools import cache
from pickle import UnpicklingError
from typing import Any, Callable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

STATISTICS = ('min', 'max', 'current', 'mean')
# Types of scalars and of their arrays: np.dtype's own subclass for each.
DTYPES = (
    *('bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64'),
    *('float16', 'float32', 'float64', 'str'),
)


def allow_mmengine_checkpoints() -> None:
    """Put what mmengine's checkpoints hold on torch's allow-list, where torch has one."""
    add_safe_globals = getattr(torch.serialization, 'add_safe_globals', None)
    if add_safe_globals is not None:
        add_safe_globals(list(safe_globals()))


@cache
def safe_globals() -> tuple[Any, ...]:
    """Return what is allowed: classes, and functions under the name that a checkpoint has for them."""
    # Cached: the same objects each time, so that allowing them again adds nothing.
    reconstruct, scalar = np.empty(0).__reduce__()[0], np.float32().__reduce__()[0]
    functions = [_named(history_statistic, 'builtins', 'getattr')]
    # numpy 2 moved these: a checkpoint written with one numpy must load with the other.
    for module in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        functions.append(_named(reconstruct, module, '_reconstruct'))
        functions.append(_named(scalar, module, 'scalar'))
    dtypes = {type(np.dtype(name)) for name in DTYPES}
    return (HistoryBuffer, np.ndarray, np.dtype, *dtypes, *functions)


def history_statistic(owner: type, name: str) -> Callable[..., Any]:
    """Stand in for ``getattr`` while a checkpoint is read: only HistoryBuffer's own statistics.

    Raises:
        UnpicklingError: If anything else is asked for.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise UnpicklingError(
            f'The checkpoint asks for getattr({owner!r}, {name!r}). Only the statistics '
            f'{", ".join(STATISTICS)} of mmengine HistoryBuffer are allowed, since anything else '
            'could run code. If you trust its source, load the file yourself and save its '
            'state_dict alone.'
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
