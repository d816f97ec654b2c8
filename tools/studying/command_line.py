"""Changes of a config as they are written behind ``--cfg-options``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from cli.overrides import ConfigChanges
from mmkdlayer.errors import ConfigError


def cfg_options_line(options: Mapping[str, Any], where: str) -> list[str]:
    """``['--cfg-options', 'key=value', ...]``, empty without options.

    Raises:
        ConfigError: The commands would read a value as another one.
    """
    words = [f'{key}={_text(value)}' for key, value in options.items()]
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=ConfigChanges)
    line = ['--cfg-options', *words] if words else []
    found = parser.parse_args(line).cfg_options or {}
    for key, value in options.items():
        if found.get(key) != value:
            raise ConfigError(
                f'{where}: {key}={value!r} can not be given on a command line, which would read '
                f'{found.get(key)!r}. Write it into a config file, and let the study name that.'
            )
    return line


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        opened, closed = '[]' if isinstance(value, list) else '()'
        return f'{opened}{",".join(map(_text, value))}{closed}'
    return str(value)
