"""Variables of a config that other values are made from, such as the side of the images.

mmengine applies ``--cfg-options``, and what a config changes in its base, after the base is evaluated:
too late for a value that was made from another one. :func:`read_config` evaluates it again with the new
value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from mmengine.config import Config

from .errors import ConfigError

_VALUES: ContextVar[Mapping[str, Any] | None] = ContextVar('values', default=None)
_READ: ContextVar[dict[str, Any] | None] = ContextVar('read', default=None)
#: A config whose variables change each other never settles.
MOST_PASSES = 5


def config_variable(name: str, default: Any) -> Any:
    """For a config: the value of its variable ``name``, which the config must have at its top level.

    Raises:
        ConfigError: It was given with another type than that of the default.
    """
    value = (_VALUES.get() or {}).get(name, default)
    if type(value) is not type(default):
        raise ConfigError(
            f'The config variable {name} expects {type(default).__name__}, such as {default!r}, but got '
            f'{value!r}.'
        )
    read = _READ.get()
    if read is not None:
        read[name] = value
    return value


def read_config(
    path: str | os.PathLike, options: Mapping[str, Any] | None = None, **variables: Any
) -> Config:
    """A config in which all that is made from its variables has their last values.

    Args:
        path: The file.
        options: Changes by dotted name, as from ``--cfg-options``; may name variables.
        variables: Values of variables, above all others. Names that the config does not read are left
            out of it.

    Raises:
        ConfigError: A variable has a wrong type, or its value depends on itself.
    """
    return read_with_variables(path, options, **variables)[0]


def read_with_variables(
    path: str | os.PathLike, options: Mapping[str, Any] | None = None, **variables: Any
) -> tuple[Config, set[str]]:
    """As :func:`read_config`, with the names of the variables that the config has."""
    values: dict[str, Any] = dict(variables)
    for _ in range(MOST_PASSES):
        read: dict[str, Any] = {}
        tokens = _VALUES.set(values), _READ.set(read)
        try:
            cfg = Config.fromfile(path)
        finally:
            _VALUES.reset(tokens[0])
            _READ.reset(tokens[1])
        cfg.merge_from_dict(dict(options or {}))
        for name in read.keys() & variables.keys():
            cfg[name] = variables[name]
        values = {name: cfg[name] for name in read}
        if values == read:
            return cfg, set(read)
        values = {**variables, **values}
    raise ConfigError(f'{path}: the variables {sorted(values)} change each other without end.')
