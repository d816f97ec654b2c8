"""JSON of unknown origin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Brackets within brackets that are read; a config has about ten.
DEEPEST = 200
# To the end where a string is not closed.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKETS = re.compile(r'[\[{]+|[\]}]+')


def parse_json(text: str) -> Any:
    """What a JSON text holds.

    Python's parser calls itself for each bracket. How deep that may go is a limit of the process, which
    other libraries raise beyond what its stack can hold, so depth is looked at first.

    Raises:
        ValueError: It is no JSON, or nested more than :data:`DEEPEST` deep.
    """
    depth = 0
    for brackets in _BRACKETS.findall(_STRING.sub('', text)):
        depth += len(brackets) if brackets[0] in '[{' else -len(brackets)
        if depth > DEEPEST:
            raise ValueError(f'its JSON is nested more than {DEEPEST} deep')
    return json.loads(text)


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in the lines of a log; what a killed process has half written is passed over."""
    for text in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            line = parse_json(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
