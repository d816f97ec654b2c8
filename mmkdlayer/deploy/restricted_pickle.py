"""Reads mmengine's checkpoints without running code where torch has no allow-list (before 2.4)."""

from __future__ import annotations

import _compat_pickle
import os
import pickle
from types import SimpleNamespace
from typing import Any

import torch

from mmkdlayer.compat.serialization import _safe_globals


def encode(text: str, encoding: str) -> bytes:
    """Stand in for ``codecs.encode``, by which protocol 2 writes the bytes of numpy's arrays.

    Raises:
        UnpicklingError: Another encoding is asked for.
    """
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it asks for the encoding {encoding!r}, which is not allowed')
    return text.encode(encoding)


def allowed_globals() -> dict[str, Any]:
    """What a checkpoint may use: torch's own names, and :mod:`mmkdlayer.compat.serialization`'s."""
    names = dict(torch._weights_only_unpickler._get_allowed_globals())
    names.update({f'{entry.__module__}.{entry.__qualname__}': entry for entry in _safe_globals()})
    names.update({'builtins.set': set, '_codecs.encode': encode})
    return names


class RestrictedUnpickler(pickle.Unpickler):
    """Python's unpickler, with the names of :func:`allowed_globals` alone."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What a name stands for.

        Raises:
            UnpicklingError: It is not allowed.
        """
        # Protocol 2, which torch writes, has the names of Python 2.
        module_name = _compat_pickle.IMPORT_MAPPING.get(module_name, module_name)
        allowed = allowed_globals()
        name = f'{module_name}.{global_name}'
        if name not in allowed:
            raise pickle.UnpicklingError(
                f'it asks for {name}, which is not allowed since it could run code. If you trust its '
                'source, load the file yourself and save its state_dict alone'
            )
        return allowed[name]


def load_restricted(path: str | os.PathLike) -> Any:
    """Load a file that torch saved, onto the CPU.

    Raises:
        UnpicklingError: It asks for something that is not allowed.
    """
    module = SimpleNamespace(
        __name__=__name__,
        Unpickler=RestrictedUnpickler,
        load=lambda file, **options: RestrictedUnpickler(file, **options).load(),
    )
    return torch.load(path, map_location='cpu', pickle_module=module, weights_only=False)
