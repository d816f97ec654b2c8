"""An unpickler that runs no code of a file and believes no size that the file does not have."""

from __future__ import annotations

import _compat_pickle
import pickle
from collections import Counter
from types import FunctionType
from typing import Any, Callable

import numpy as np
import torch

from mmkdlayer.compat.serialization import RefusedPickleError, safe_globals

#: Of a tuple: its values, plus twice the weight of each tuple in it, which limits depth too.
HEAVIEST_TUPLE = 10**7


def encode(text: str, encoding: str) -> bytes:
    """Stand in for ``codecs.encode``, by which protocol 2 writes the bytes of numpy's arrays."""
    if encoding != 'latin1':
        raise RefusedPickleError(f'it asks for the encoding {encoding!r}, which is not allowed')
    return text.encode(encoding)


def allowed_globals() -> dict[str, Any]:
    """What torch, its user and :mod:`mmkdlayer.compat.serialization` allow, by name."""
    names = dict(torch._weights_only_unpickler._get_allowed_globals())
    users: Any = getattr(torch.serialization, 'get_safe_globals', list)  # torch 2.4 and later
    for entry in (*users(), *safe_globals()):
        value, name = entry if isinstance(entry, tuple) else (entry, None)
        names[name or f'{value.__module__}.{value.__qualname__}'] = value
    # A Counter holds the milestones of torch's MultiStepLR.
    names.update({'builtins.set': set, 'collections.Counter': Counter, '_codecs.encode': encode})
    return names


_PythonUnpickler: Any = pickle._Unpickler  # the one in C has no parts


class RestrictedUnpickler(_PythonUnpickler):
    """Python's unpickler, with the names of :func:`allowed_globals` alone."""

    dispatch = dict(_PythonUnpickler.dispatch)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._allowed = allowed_globals()
        self._tuples: dict[int, tuple[int, tuple]] = {}

    @staticmethod
    def room(key: str) -> int:
        """Bytes that the file has for the tensor of a key."""
        return 0

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What an allowed name stands for."""
        # Protocol 2, which torch writes, has the names of Python 2.
        pair = module_name, global_name
        module_name, global_name = _compat_pickle.NAME_MAPPING.get(pair, pair)
        module_name = _compat_pickle.IMPORT_MAPPING.get(module_name, module_name)
        name = f'{module_name}.{global_name}'
        if name not in self._allowed:
            raise RefusedPickleError(
                f'it asks for the Python object {name}, which can run any code'
            )
        return self._allowed[name]

    def load_build(self) -> None:
        """Give an object its state, but no function, class or type of numpy: all others use these."""
        state, target = self.stack[-1], self.stack[-2]
        if isinstance(target, np.dtype):
            expected: Any = target.__reduce__()
            if state != expected[2]:  # another byte order, or flags that make it count references
                raise RefusedPickleError(f'it asks for a change of the type {target} of numpy')
            self.stack.pop()
            return
        if isinstance(target, (type, FunctionType)):
            raise RefusedPickleError(
                f'it asks for a change of {target.__qualname__}, which is not allowed'
            )
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def load_binpersid(self) -> None:
        """A tensor's numbers, which are beside the pickle: torch 2.8 and older read on beyond them."""
        what, kind, key, _, count = self.stack[-1][:5]
        needed = count * getattr(kind, 'dtype', torch.uint8).itemsize
        if what != 'storage' or not 0 <= needed <= self.room(key):
            raise RefusedPickleError(
                f'it says that its tensor {key!r} has {needed} bytes, but there are {self.room(key)}'
            )
        super().load_binpersid()

    dispatch[pickle.BINPERSID[0]] = load_binpersid


def _weighed(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Refuse a tuple of the same tuple twice, and so on, or one too deep: its hash would not end."""

    def load_tuple(self: Any) -> None:
        load(self)
        made = self.stack[-1]
        inner = sum(self._tuples[id(part)][0] for part in made if id(part) in self._tuples)
        weight = len(made) + 2 * inner
        if weight > HEAVIEST_TUPLE:
            raise RefusedPickleError('it holds a tuple of too many values or levels')
        self._tuples[id(made)] = weight, made  # kept, so that its id stays its own

    return load_tuple


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    RestrictedUnpickler.dispatch[_code[0]] = _weighed(RestrictedUnpickler.dispatch[_code[0]])
