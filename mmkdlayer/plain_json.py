"""JSON of unknown origin."""

from __future__ import annotations

import json
import re
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
