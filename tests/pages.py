"""The pages of the documents: their files, and the code blocks in them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Callable, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')),
        *(ROOT / 'docs').glob('*.md'),
        *(ROOT / 'docs' / 'reference').glob('*.md'),
        *(ROOT / name / 'README.md' for name in ('benchmarks', 'configs/kdlayer')),
    ]
)


class Block(NamedTuple):
    """A code block of a page."""

    page: str
    line: int
    code: str


def code_blocks(language: str) -> list[Block]:
    """All blocks of a language, in every page."""
    blocks = []
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(rf'^```{language}\n(.*?)^```$', text, re.DOTALL | re.MULTILINE):
            line = text.count('\n', 0, found.start()) + 1
            blocks.append(Block(page.relative_to(ROOT).as_posix(), line, found[1]))
    return blocks


def help_of() -> Callable[[str], str]:
    """The function of the documents' extension that gives a command's ``--help``."""
    return runpy.run_path(str(ROOT / 'docs' / '_ext' / 'help_text.py'))['command_help']
