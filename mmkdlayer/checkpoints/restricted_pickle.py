"""Reads mmengine's checkpoints without running code where torch has no allow-list (before 2.4)."""

from __future__ import annotations

import _compat_pickle
import pickle
from collections import Counter
from types import FunctionType, SimpleNamespace
from typing import IO, Any

import torch

from mmkdlayer.compat.serialization import TEXT, RefusedPickleError, safe_globals


def encode(text: str, encoding: str) -> bytes:
    """Stand in for ``codecs.encode``, by which protocol 2 writes the bytes of numpy's arrays."""
    if encoding != 'latin1':
        raise RefusedPickleError(f'it asks for the encoding {encoding!r}, which is not allowed')
    return text.encode(encoding)


def allowed_globals() -> dict[str, Any]:
    """What a checkpoint may use: torch's own names, and :mod:`mmkdlayer.compat.serialization`'s."""
    names = dict(torch._weights_only_unpickler._get_allowed_globals())
    own = (*safe_globals(), TEXT)
    names.update({f'{entry.__module__}.{entry.__qualname__}': entry for entry in own})
    # A Counter holds the milestones of torch's MultiStepLR.
    names.update({'builtins.set': set, 'collections.Counter': Counter, '_codecs.encode': encode})
    return names


_PythonUnpickler: Any = pickle._Unpickler  # the one in C has no parts


class RestrictedUnpickler(_PythonUnpickler):
    """Python's unpickler, with the names of :func:`allowed_globals` alone."""

    dispatch = dict(_PythonUnpickler.dispatch)

    def load_build(self) -> None:
        """Give an object its state, but no function or class: those are of this process."""
        target = self.stack[-2]
        if isinstance(target, (type, FunctionType)):
            raise RefusedPickleError(
                f'it asks for a change of {target.__qualname__}, which is not allowed'
            )
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What an allowed name stands for."""
        # Protocol 2, which torch writes, has the names of Python 2.
        module_name = _compat_pickle.IMPORT_MAPPING.get(module_name, module_name)
        name = f'{module_name}.{global_name}'
        allowed = allowed_globals()
        if name not in allowed:
            raise RefusedPickleError(
                f'it asks for {name}, which is not allowed since it could run code'
            )
        return allowed[name]


def load_restricted(file: IO[bytes], map_location: Any = 'cpu') -> Any:
    """Load a file that torch saved.

    Raises:
        RefusedPickleError: It asks for something that is not allowed.
    """
    module = SimpleNamespace(
        __name__=__name__,
        Unpickler=RestrictedUnpickler,
        load=lambda file, **options: RestrictedUnpickler(file, **options).load(),
    )
    return torch.load(
        file, map_location=map_location, pickle_module=module, weights_only=False, mmap=False
    )
