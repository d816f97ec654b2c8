"""A fallback for the one subpackage of mmrazor 1.0.0 that recent torch breaks.

``mmrazor.structures.quantization.backend_config`` builds quantisation tables at import from names
that torch removed, and with it falls everything that imports ``mmrazor.structures``, distillation
included. It is executed for real first; only when that fails because of torch does a stand-in take
its place. A mmrazor that works is therefore left as it is.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import product
from types import ModuleType
from typing import Any, Callable, NoReturn

import torch

BACKEND_CONFIG = 'mmrazor.structures.quantization.backend_config'
BACKENDS = ('academic', 'native', 'openvino', 'tensorrt')


def run_or_stand_in(module: ModuleType, run: Callable[[ModuleType], None]) -> None:
    """Run the subpackage's code; put the stand-in in its place where that fails because of torch."""
    before = dict(vars(module))
    try:
        run(module)
    except (ImportError, AttributeError) as error:
        if not _is_caused_by_torch(error):
            raise
        for name in [name for name in sys.modules if name.startswith(f'{BACKEND_CONFIG}.')]:
            del sys.modules[name]
        vars(module).clear()
        vars(module).update(before, **_stand_in())


def _is_caused_by_torch(error: Exception) -> bool:
    if isinstance(error, ModuleNotFoundError):
        return (error.name or '').split('.')[0] == 'torch'
    return 'torch' in str(error)


def _stand_in() -> dict[str, Any]:
    content: dict[str, Any] = {'BackendConfigs': MissingBackendConfigs()}
    for backend, suffix in product(BACKENDS, ('', '_dict')):
        name = f'get_{backend}_backend_config{suffix}'
        content[name] = partial(_refuse, f'{name}()')
    return dict(content, __all__=list(content))


class MissingBackendConfigs(dict):
    """The empty table of quantisation backends; reading one from it says why there is none."""

    def __missing__(self, backend: object) -> NoReturn:
        _refuse(f'the backend config {backend!r}')


def _refuse(what: str, *args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError(
        f'{what} belongs to the quantisation part of the installed mmrazor, which was written for '
        f'torch 1.13 and uses names that torch {torch.__version__} no longer has. Distillation, '
        'pruning and architecture search work without it. To quantise with mmrazor, use an '
        'environment of its own with torch 1.13, or a mmrazor newer than its 1.0.0 wheel.'
    )
