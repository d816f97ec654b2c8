"""Building what a config describes: the runner, and what to say where a part can't be built."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS, RUNNERS, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmkdlayer.engine.allocator import keep_memory
from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names
from mmkdlayer.type_names import type_name

#: Errors of a constructor that was given what it can't use.
BUILD_ERRORS = (TypeError, ValueError, AssertionError, AttributeError, KeyError, IndexError)
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_KD_LAYERS_HINT = (
    'KD layers are declared in model.distiller, with type="mmkdlayer.KDLayerDistiller", or in a student '
    'of its own, with type="mmkdlayer.KDLayerClassifier".'
)


def build_runner(cfg: Config) -> Runner:
    """The runner of a config: mmengine's Runner, or a subclass that ``runner_type`` names.

    On a CPU, memory is kept from here on (see :mod:`mmkdlayer.engine.allocator`).

    Raises:
        ConfigError: ``runner_type`` or ``strategy`` ask for a runner of another kind; or the Runner
            refuses the config; or ``env_cfg.keep_memory`` is not a bool.
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
    runner: Any = found
    kept = keep_memory(cfg)
    try:
        built = runner.from_cfg(cfg)
    except (TypeError, ValueError, AssertionError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get('__name__') != Runner.__module__:
            raise
        text = ' '.join(str(error).split())
        raise ConfigError(f"The config is not one that mmengine's Runner takes: {text}") from error
    if kept:
        print_log(kept, logger='current')
    return built


def explain_build_error(error: Exception) -> str | None:
    """What to say about an error in a constructor that a config named; None for other errors."""
    built = _where_built(error) if isinstance(error, BUILD_ERRORS) else None
    if built is None:
        return None
    kind, name, given, registry = built
    text = ' '.join(str(error).split()).rstrip('.')
    if kind is None:
        if not isinstance(given, Mapping):
            return f'an entry of the config is {given!r}, but must be a dict with "type".'
        if 'must contain the key "type"' in text:
            return f'an entry of the config lacks "type"; it has {_keys(given)}.'
        near = suggest_names(name, _registered(registry))
        return f'the config names type="{name}", which is not known. {near}'
    wrong = _UNEXPECTED.search(text)
    if wrong and wrong[1] in given:
        near = suggest_names(wrong[1], arguments_of(kind))
        hint = _KD_LAYERS_HINT if wrong[1] == 'kd_layers' else near
        return f'{name} has no argument "{wrong[1]}", which the config gives it. {hint}'
    return (
        f'{name}, which the config names, can not be built with the arguments {_keys(given)}: '
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
    names: dict[str, None] = {}
    for base in inspect.getmro(kind)[:-1] if inspect.isclass(kind) else (kind,):
        call = vars(base).get('__init__') if inspect.isclass(base) else base
        parameters = inspect.signature(call).parameters.values() if call else ()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names.update((p.name, None) for p in parameters if p.kind in named and p.name != 'self')
        if call and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return list(names)
