"""The package's folders build on each other in one direction, and no file is too long to read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmkdlayer'
#: Each layer imports only from those above it; those of one line not from each other.
LAYERS = [
    {'errors', 'version', 'registry', 'type_names', 'precision'},
    {'atomic', 'image_files', 'config_variables', 'pipelines', 'plain_json'},
    {'compat'},
    {'checkpoints'},
    {'models'},
    {'fitting'},
    {'engine'},
    {'stored'},
    {'deploy'},
    {'report'},
]
DEPTH = {part: depth for depth, parts in enumerate(LAYERS) for part in parts}
FILES = sorted(path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts)
TOOLS = sorted((ROOT / 'tools').rglob('*.py'))
LONGEST = 300


def part_of(module: str) -> str:
    """The folder or file directly in the package that a module belongs to."""
    return module.split('.')[1] if '.' in module else ''


def imports_of(path: Path) -> set[str]:
    """Full names of the package's modules that a file imports, at its top or in a function."""
    package = ('mmkdlayer', *path.relative_to(PACKAGE).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = '.'.join((*base, *filter(None, [node.module])))
            # "from mmkdlayer import x" names a module by what it imports.
            found.update(
                f'{name}.{alias.name}' if name == 'mmkdlayer' else name for alias in node.names
            )
    return {name for name in found if name.split('.')[0] == 'mmkdlayer'}


def test_every_part_has_a_layer() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix('.py') for path in FILES}
    assert parts - {'__init__', '__main__'} == set(DEPTH)


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if own in ('__init__', '__main__'):
        return
    wrong = {
        name
        for name in imports_of(path)
        if part_of(name) != own and DEPTH.get(part_of(name), 0) >= DEPTH[own]
    }
    assert not wrong


@pytest.mark.parametrize('path', FILES + TOOLS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST
