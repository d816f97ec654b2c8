"""Building what a config describes: the runner, and what to say where a part can't be built."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Callable

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS, RUNNERS, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmkdlayer.engine.allocator import keep_memory
from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names
from mmkdlayer.type_names import type_name

from .host_errors import loader_of

#: Errors of a constructor that was given what it can't use.
BUILD_ERRORS = (TypeError, ValueError, AssertionError, AttributeError, KeyError, IndexError)
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_KD_LAYERS_HINT = (
    'KD layers are declared in model.distiller, with type="mmkdlayer.KDLayerDistiller", or in a student '
    'of its own, with type="mmkdlayer.KDLayerClassifier".'
)


def build_runner(cfg: Config) -> Runner:
    """The runner of a config: mmengine's Runner, or a subclass that ``runner_type`` names.

    Its data loaders stack images (see :mod:`mmkdlayer.engine.batching`). On a CPU, memory is kept from
    here on (see :mod:`mmkdlayer.engine.allocator`).

    Raises:
        ConfigError: ``runner_type`` or ``strategy`` ask for a runner of another kind; or
            ``env_cfg.keep_memory`` is not a bool.
    """
    kind = cfg.get('runner_type', 'Runner')
    found = kind if inspect.isclass(kind) else RUNNERS.get(kind)
    if not (inspect.isclass(found) and issubclass(found, Runner)) or cfg.get('strategy'):
        raise ConfigError(
            f"runner_type={type_name(kind)}, strategy={cfg.get('strategy')}: expected mmengine's Runner "
            'or a subclass of it, without strategy. Fitting, saving on a signal and resuming within an '
            'epoch are made for it and do not work with FlexibleRunner. Take both keys out; for large '
            'students there are --amp, model_wrapper_cfg and activation_checkpointing.'
        )
    complete_loaders(cfg)
    runner: Any = found
    kept = keep_memory(cfg)
    with nullcontext() if cfg.get('log_level') == 'DEBUG' else _without_list_of_hooks(runner):
        built = runner.from_cfg(cfg)
    if kept:
        print_log(kept, logger='current')
    return built


def complete_loaders(cfg: Mapping[str, Any]) -> None:
    """Let the data loaders of a config stack images, and pin memory where there is a GPU.

    What a loader says of ``collate_fn`` and ``pin_memory`` itself stays.
    """
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if isinstance(loader, dict) and 'dataset' in loader:
            loader.setdefault('collate_fn', dict(type='mmkdlayer.stack_images'))
            if get_device() == 'cuda':
                loader.setdefault('pin_memory', True)


@contextmanager
def _without_list_of_hooks(runner: Any) -> Iterator[None]:
    """Let a Runner log no list of its hooks: in its 80 lines, warnings are overlooked."""
    listing, runner.get_hooks_info = runner.get_hooks_info, lambda self: 'see log_level="DEBUG"'
    try:
        yield
    finally:
        runner.get_hooks_info = listing


def explain_build_error(error: Exception) -> str | None:
    """What to say about an error in a constructor that a config named; None for other errors."""
    built = _where_built(error) if isinstance(error, BUILD_ERRORS) else None
    if built is None:
        return None
    kind, name, given, registry = built
    loader = loader_of(error)
    place = f'{loader}: ' if loader else ''
    text = ' '.join(str(error).split()).rstrip('.')
    if kind is None:
        if not isinstance(given, Mapping):
            return f'{place}an entry of the config is {given!r}, but must be a dict with "type".'
        if 'must contain the key "type"' in text:
            return f'{place}an entry of the config lacks "type"; it has {_keys(given)}.'
        near = suggest_names(name, _registered(registry))
        return f'{place}the config names type="{name}", which is not known. {near}'
    wrong = _UNEXPECTED.search(text)
    if wrong and wrong[1] in given:
        near = suggest_names(wrong[1], arguments_of(kind))
        hint = _KD_LAYERS_HINT if wrong[1] == 'kd_layers' else near
        return f'{place}{name} has no argument "{wrong[1]}", which the config gives it. {hint}'
    return (
        f'{place}{name}, which the config names, can not be built with the arguments {_keys(given)}: '
        f'{type(error).__name__}: {text}. Correct its entry in the config (--debug shows where it '
        'failed).'
    )


def _where_built(error: Exception) -> tuple[Any, str, Any, Registry | None] | None:
    """The innermost constructor in an error's traceback that mmengine called for a config.

    Returns:
        The class or function (None where the registry has none of this name), its name, what the config
        has for it, and where it was looked up.
    """
    built = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        seen = frame.f_locals
        if frame.f_code.co_name == 'build_from_cfg':
            kind, given = seen.get('obj_cls'), seen.get('args', seen.get('cfg'))
            built = kind, type_name(kind or seen.get('obj_type')), given, seen.get('registry')
        elif frame.f_code.co_name == 'build_dataloader' and 'dataloader_cfg' in seen:
            built = DataLoader, 'The data loader', seen['dataloader_cfg'], None
        elif seen.get('convert_to_iter') and 'scheduler_type' in seen:
            kind, given = seen.get('scheduler_cls'), seen['args']
            built = kind, type_name(kind or seen['scheduler_type']), given, seen['registry']
        elif 'optimizer_cls' in seen and seen['optimizer_cls'] is None:  # its type is not known
            given = seen['optimizer_cfg']
            built = None, given['type'], given, OPTIMIZERS
    return built


def _keys(given: Mapping[str, Any] | None) -> str:
    """Names of arguments, with the values that are short."""
    named = (
        f'{k}={v!r}' if isinstance(v, (int, float, str)) else str(k)
        for k, v in (given or {}).items()
    )
    return ', '.join(text if len(text) < 50 else text.split('=')[0] for text in named) or 'none'


def _registered(registry: Registry | None) -> Iterator[str]:
    """All names of a registry, its relatives' with their scopes."""
    root = registry
    while root is not None and root.parent is not None:
        root = root.parent
    for child in () if root is None else (root, *root.children.values()):
        yield from (
            name if child is root else f'{child.scope}.{name}' for name in child.module_dict
        )


def arguments_of(kind: Any) -> list[str]:
    """Names of the arguments of a class, those of its bases too where it passes others on."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signatures = (inspect.signature(call).parameters.values() for call in initialisers(kind))
    found = [p.name for each in signatures for p in each if p.kind in named]
    return [name for name in dict.fromkeys(found) if name != 'self']


def initialisers(kind: Any) -> Iterator[Callable[..., Any]]:
    """A function; or the ``__init__`` of a class, and those of its bases that it passes others on to."""
    for base in inspect.getmro(kind)[:-1] if inspect.isclass(kind) else filter(None, [kind]):
        call = vars(base).get('__init__') if inspect.isclass(base) else base
        if call:
            yield call
            parameters = inspect.signature(call).parameters.values()
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
                return
