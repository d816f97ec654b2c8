"""Entries of a config that nothing reads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import Runner
from torch import nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.attach import suggest_names

from .overrides import read_keys


def check_unread(cfg: Config) -> None:
    """Refuse options that the hosts take from a dict and leave there if they do not know them.

    Raises:
        ConfigError: ``kd_layers`` stands at the top level; ``env_cfg``, or ``paramwise_cfg`` of an
            optimiser, has an option that nothing reads.
    """
    if cfg.get('kd_layers') and "'kd_layers'" not in str(cfg.model):
        raise ConfigError(
            'kd_layers stands at the top level of the config, where nothing reads it. Put it into '
            'model.distiller=dict(type="mmkdlayer.KDLayerDistiller", kd_layers=...).'
        )
    known = {*_options(Runner, 'env_cfg'), 'keep_memory'}
    _compare('env_cfg', cfg.get('env_cfg'), known)
    for path, wrapper in _wrappers(cfg):
        name = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
        kind = name if inspect.isclass(name) else OPTIM_WRAPPER_CONSTRUCTORS.get(name)
        given = wrapper.get('paramwise_cfg') or {}
        _compare(f'{path}.paramwise_cfg', given, _options(kind, 'paramwise_cfg'))
        for key, changes in (given.get('custom_keys') or {}).items():
            place = f'{path}.paramwise_cfg.custom_keys["{key}"]'
            _compare(place, changes, _options(kind, r'custom_keys\[\w+\]'))


def _wrappers(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries of the optimisers, by dotted name: one, or one for each network."""
    wrapper = cfg.get('optim_wrapper') or {}
    yield 'optim_wrapper', wrapper
    for key, part in wrapper.items():
        if isinstance(part, Mapping) and 'optimizer' in part:
            yield f'optim_wrapper.{key}', part


def _options(kind: Any, name: str) -> set[str]:
    """The keys that the methods of a class read of a dict of this name, by their source."""
    try:
        methods = inspect.getmembers(kind, inspect.isfunction)
        text = ''.join(inspect.getsource(method) for _, method in methods)
    except (OSError, TypeError):  # there is no source
        return set()
    return set(re.findall(rf"{name}(?:\.get\(|\[)\s*'(\w+)'", text))


def _compare(path: str, given: Any, known: Iterable[str]) -> None:
    for key in given if isinstance(given, Mapping) and known else ():
        if key not in known:
            raise ConfigError(f'{path}: nothing reads "{key}". {suggest_names(key, known)}')


def unread_warnings(cfg: Config, model: nn.Module) -> Iterator[str]:
    """A sentence for each entry of a training config that stands where something else is read.

    ``model`` is what was built of it.
    """
    inner, outer = cfg.model.get('data_preprocessor'), cfg.get('data_preprocessor')
    if inner and outer and _normalisation(inner) != _normalisation(outer):
        yield (
            f'model.data_preprocessor is used, {inner}; data_preprocessor at the top level is not read, '
            f'{outer}. Take one of them out.'
        )
    known = read_keys()
    for key in sorted(set(cfg) - known):
        near = get_close_matches(key, known, n=1, cutoff=0.9)
        if near:
            yield f'Nothing reads "{key}" of the config. Did you mean "{near[0]}"?'
    names = [name for name, _ in model.named_parameters()]
    for path, wrapper in _wrappers(cfg):
        for key in (wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {}:
            if not any(key in name for name in names):
                yield f'{path}.paramwise_cfg.custom_keys: no parameter has "{key}" in its name.'


def _normalisation(preprocessor: Mapping[str, Any]) -> list[Any]:
    """What of a preprocessor's config decides how the network sees an image."""
    rgb = preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb') or False
    mean, std = (list(preprocessor.get(key) or []) for key in ('mean', 'std'))
    return [mean, std, rgb, preprocessor.get('batch_augments')]
