"""Variables of a config that other values are made from, such as the side of the images.

mmengine applies ``--cfg-options``, and what a config changes in its base, after the base is evaluated:
too late for a value that was made from another one. :func:`read_config` therefore evaluates it twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from mmengine.config import Config

from .errors import ConfigError

#: Values that are given to variables, and those that the config being evaluated has read.
_READING: ContextVar[tuple[Mapping[str, Any], dict[str, Any]] | None] = ContextVar(
    'reading', default=None
)


def config_variable(name: str, default: Any) -> Any:
    """For a config: the value of its variable ``name``, which the config must have at its top level.

    Raises:
        ConfigError: It was given with another type than that of the default.
    """
    given, read = _READING.get() or ({}, {})
    value = read[name] = given.get(name, default)
    if type(value) is not type(default):
        raise ConfigError(
            f'The config variable {name} expects {type(default).__name__}, such as {default!r}, but got '
            f'{value!r}.'
        )
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
    values: Mapping[str, Any] = variables
    for _ in range(2):
        read: dict[str, Any] = {}
        token = _READING.set((values, read))
        try:
            cfg = Config.fromfile(path)
        finally:
            _READING.reset(token)
        own = {name: value for name, value in variables.items() if name in read}
        cfg.merge_from_dict({**(options or {}), **own})
        values = {name: cfg[name] for name in read}
        if values == read:
            return cfg, set(read)
    raise ConfigError(f'{path}: a variable of {sorted(values)} depends on itself.')
