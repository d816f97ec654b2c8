"""A fallback for the one subpackage of mmrazor 1.0.0 that recent torch breaks.

``mmrazor.structures.quantization.backend_config`` builds quantisation tables at import from names
that torch removed, and with it falls everything that imports ``mmrazor.structures``, distillation
included. It is executed for real first; only when that fails because of torch does a stand-in take
its place. A mmrazor that works is therefore left as it is.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Callable, NoReturn

import torch

from .loader_wrapping import LoaderWrappingFinder, WrappedLoader

BACKEND_CONFIG = 'mmrazor.structures.quantization.backend_config'
BACKENDS = ('academic', 'native', 'openvino', 'tensorrt')


class MissingBackendConfigs(dict):
    """The empty table of quantisation backends; reading one from it says why there is none."""

    def __missing__(self, backend: object) -> NoReturn:
        raise _quantization_error(f'the backend config {backend!r}')


class _FallbackLoader(WrappedLoader):
    """Runs the real loader, and fills the module with the stand-in where torch makes that fail."""

    def exec_module(self, module: ModuleType) -> None:
        before = dict(vars(module))
        try:
            super().exec_module(module)
        except (ImportError, AttributeError) as error:
            if not _is_caused_by_torch(error):
                raise
            for name in [name for name in sys.modules if name.startswith(f'{BACKEND_CONFIG}.')]:
                del sys.modules[name]
            vars(module).clear()
            vars(module).update(before, __loader__=self.real)
            _fill_stand_in(module)


class BackendConfigFinder(LoaderWrappingFinder):
    """Watches for the import of the one subpackage."""

    module = BACKEND_CONFIG
    loader = _FallbackLoader


def _is_caused_by_torch(error: Exception) -> bool:
    if isinstance(error, ModuleNotFoundError):
        return (error.name or '').split('.')[0] == 'torch'
    return 'torch' in str(error)


def _fill_stand_in(module: ModuleType) -> None:
    content: dict[str, Any] = {'BackendConfigs': MissingBackendConfigs()}
    for backend in BACKENDS:
        for suffix in ('', '_dict'):
            name = f'get_{backend}_backend_config{suffix}'
            content[name] = _refuse(name, module.__name__)
    vars(module).update(content, __all__=list(content))


def _refuse(name: str, module_name: str) -> Callable[..., NoReturn]:
    def accessor(*args: object, **kwargs: object) -> NoReturn:
        raise _quantization_error(f'{name}()')

    accessor.__name__ = accessor.__qualname__ = name
    accessor.__module__ = module_name
    return accessor


def _quantization_error(what: str) -> RuntimeError:
    return RuntimeError(
        f'{what} belongs to the quantisation part of the installed mmrazor, which was written for '
        f'torch 1.13 and uses names that torch {torch.__version__} no longer has. Distillation, '
        'pruning and architecture search work without it. To quantise with mmrazor, use an '
        'environment of its own with torch 1.13, or a mmrazor newer than its 1.0.0 wheel.'
    )
