"""Python text of a config, laid out as a person would."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

WIDTH = 100
NAME = re.compile(r'[A-Za-z_]\w*$')


class Name(str):
    """The name of an earlier value of the config, written without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def format_value(
    value: Any, indent: int, used: int, comments: Mapping[tuple, str], path: tuple = ()
) -> str:
    """One value as Python text; what does not fit on the line is broken into one item a line.

    Args:
        value: Dicts, lists, tuples and plain values.
        indent: Spaces before the line that the value starts on.
        used: Characters of that line before and after the value.
        comments: Comment lines by path of keys, each written above its item.
        path: The value's own path.
    """
    commented = any(len(key) > len(path) and key[: len(path)] == path for key in comments)
    text = _one_line(value)
    if not commented and indent + used + len(text) <= WIDTH:
        return text
    if isinstance(value, dict) and all(NAME.match(str(key)) for key in value):
        opening, closing = 'dict(', ')'
        items = [(f'{key}=', item, (*path, key)) for key, item in value.items()]
    elif isinstance(value, dict):
        opening, closing = '{', '}'
        items = [(f'{key!r}: ', item, (*path, key)) for key, item in value.items()]
    elif isinstance(value, (list, tuple)) and value:
        opening, closing = ('[', ']') if isinstance(value, list) else ('(', ')')
        items = [('', item, (*path, index)) for index, item in enumerate(value)]
    else:
        return text
    lines = [opening]
    for lead, item, place in items:
        inner = indent + 4
        if place in comments:
            lines += [f'{" " * inner}# {line}' for line in comments[place].splitlines()]
        body = format_value(item, inner, len(lead) + 1, comments, place)
        lines.append(f'{" " * inner}{lead}{body},')
    return '\n'.join([*lines, f'{" " * indent}{closing}'])


def _one_line(value: Any) -> str:
    if isinstance(value, dict):
        if all(NAME.match(str(key)) for key in value):
            return f'dict({", ".join(f"{k}={_one_line(v)}" for k, v in value.items())})'
        return f'{{{", ".join(f"{k!r}: {_one_line(v)}" for k, v in value.items())}}}'
    if isinstance(value, list):
        return f'[{", ".join(map(_one_line, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(_one_line, value))}{"," if len(value) == 1 else ""})'
    return repr(value)


def format_config(
    header: str, sections: list[tuple[str, dict[str, Any]]], comments: Mapping[tuple, str]
) -> str:
    """A config file.

    Args:
        header: Comment at its top.
        sections: Groups of top-level values, each with a comment (or an empty one).
        comments: Comments inside, by path of keys.
    """
    parts = ['\n'.join(f'# {line}'.rstrip() for line in header.splitlines())]
    for title, values in sections:
        lines = [f'# {line}' for line in title.splitlines()]
        for key, value in values.items():
            lines.append(f'{key} = {format_value(value, 0, len(key) + 3, comments, (key,))}')
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts) + '\n'
