"""Values of a config that are of another kind than what reads them: a text where a number is read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Optional, Union, get_args, get_origin, get_type_hints

from mmengine.config import Config
from mmengine.registry import HOOKS, LOOPS, OPTIM_WRAPPERS, PARAM_SCHEDULERS, Registry
from mmengine.runner import Runner, set_random_seed
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from mmkdlayer.errors import ConfigError
from mmkdlayer.pipelines import find_datasets

from .building import initialisers
from .overrides import LOADERS
from .schedules import find_schedules

#: Of what no signature tells.
MODEL = {'architecture': Optional[dict]}
PARAMWISE = {'custom_keys': Optional[dict]}
DATASET = {'pipeline': Optional[list]}
BESIDES = {'compile': Union[dict, bool]}
WORDS = {
    int: 'a whole number',
    float: 'a number',
    bool: 'True or False',
    str: 'a text',
    type(None): 'None',
}


def check_kinds(cfg: Config) -> None:
    """Compare plain values with the type hints of what reads them, in the hosts' code.

    Raises:
        ConfigError: A text, number or yes-or-no stands where none of its kind is read.
    """
    for path, values, hints in _read(cfg):
        if not isinstance(values, Mapping):
            raise ConfigError(f'{path} is {values!r}, but must be a dict.')
        for key in values.keys() & hints.keys():
            value, hint = values[key], hints[key]
            if isinstance(value, (bool, int, float, str)) and not admits(hint, value):
                raise ConfigError(
                    f'{path}{path and "."}{key} is {value!r}, but expected {" or ".join(_words(hint))}.'
                )


def _words(hint: Any) -> list[str]:
    """The kinds that a type hint allows, as a config has them."""
    if _is_union(hint):
        return list(dict.fromkeys(word for each in get_args(hint) for word in _words(each)))
    kind = get_origin(hint) or hint
    if kind in WORDS:
        return [WORDS[kind]]
    sequence = inspect.isclass(kind) and issubclass(kind, Sequence)
    return ['a list'] if sequence else ['a dict']


def _is_union(hint: Any) -> bool:
    return get_origin(hint) is Union or type(hint).__name__ == 'UnionType'


def _read(cfg: Config) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Parts of a config, by dotted name, with the type hints of what reads them."""
    # First, so that all that follows finds dicts and lists.
    yield '', dict(cfg.items()), {**_hints(Runner), **BESIDES}
    yield 'model', cfg.get('model') or {}, MODEL
    yield 'randomness', cfg.get('randomness') or {}, _hints(set_random_seed)
    for name in LOADERS:
        yield name, cfg.get(name) or {}, _hints(DataLoader)
        for path, dataset in find_datasets(cfg.get(name), name):
            yield path, dataset, DATASET
    for name, hook in (cfg.get('default_hooks') or {}).items():
        yield f'default_hooks.{name}', *_typed(hook, HOOKS)
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        yield f'custom_hooks.{index}', *_typed(hook, HOOKS)
    yield 'train_cfg', *_typed(cfg.get('train_cfg'), LOOPS, 'mmkdlayer.ResumableEpochLoop')
    for path, schedule in find_schedules(cfg.get('param_scheduler')):
        yield path, *_typed(schedule, PARAM_SCHEDULERS)
    wrapper = cfg.get('optim_wrapper') or {}
    yield 'optim_wrapper', *_typed(wrapper, OPTIM_WRAPPERS, 'OptimWrapper')
    yield 'optim_wrapper', wrapper, {'paramwise_cfg': Optional[dict]}
    yield 'optim_wrapper.paramwise_cfg', wrapper.get('paramwise_cfg') or {}, PARAMWISE
    yield 'optim_wrapper.clip_grad', wrapper.get('clip_grad') or {}, _hints(clip_grad_norm_)


def _typed(given: Any, registry: Registry, default: str = '') -> tuple[Any, Mapping[str, Any]]:
    """What builds an object, and the hints of its class; none where it is built already or unknown."""
    if not isinstance(given, Mapping):
        return {}, {}
    kind = given.get('type', default)
    return given, _hints(kind if inspect.isclass(kind) else registry.get(kind) if kind else None)


def _hints(kind: Any) -> dict[str, Any]:
    """The type hints of a function's or a class's arguments; none of those that can not be read."""
    found: dict[str, Any] = {}
    for call in initialisers(kind):
        for name, hint in getattr(call, '__annotations__', {}).items():
            # One by one: some have names that only a type checker imports.
            with suppress(NameError, TypeError):
                one: Any = SimpleNamespace(__annotations__={name: hint})
                found = {**get_type_hints(one, getattr(call, '__globals__', {})), **found}
    return found


def admits(hint: Any, value: bool | int | float | str) -> bool:
    """Whether a plain value is of the kind that a type hint says; True where it tells nothing."""
    if _is_union(hint):
        return any(admits(each, value) for each in get_args(hint))
    kind = get_origin(hint) or hint
    if kind is Any or not inspect.isclass(kind) or kind is str and not isinstance(value, bool):
        return True  # numbers are made texts
    if kind is type(None):
        return False
    if kind in (int, float, bool):
        whole = not isinstance(value, float) or value.is_integer()
        return not isinstance(value, str) and (whole or kind is float)
    # Of a text a host may make something else, but no dict and no list.
    return isinstance(value, str) and not issubclass(kind, (Mapping, list, tuple))
