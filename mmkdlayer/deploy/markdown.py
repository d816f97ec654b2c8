"""Texts of others as Markdown shows them: no tag, link, heading or column of a table comes of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

#: Longer texts are cut: a cell is for reading.
LONGEST = 1000


def plain(value: Any) -> str:
    """A value as text of one line that Markdown and HTML show as it is."""
    # line breaks and control characters, of any kind that ends a line somewhere
    text = re.sub(r'[\s\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+', ' ', str(value))
    text = text.strip() if len(text) <= LONGEST else f'{text[:LONGEST].strip()} ...'
    text = text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
    text = re.sub(r'([\\`*\[\]|~!#])', r'\\\1', text)
    # An underscore inside a word is one; elsewhere it would begin or end emphasis.
    return re.sub(r'(?<!\w)_|_(?!\w)', r'\\_', text)


def table_rows(rows: Iterable[Iterable[Any]], otherwise: str = 'None.') -> str:
    """The body of a table of plain texts, or what to say where there are no rows."""
    return '\n'.join(f'| {" | ".join(map(plain, row))} |' for row in rows) or f'| {otherwise} |'
