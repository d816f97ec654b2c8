"""Files, pages and headings that the documents name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT

LINK = re.compile(r'\]\((?!\w+:)([^)#\s]*)(?:#([^)]*))?\)')


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r'^#+ (.*)$', page.read_text(), re.MULTILINE)
    plain = [re.sub(r'[^\w\- ]', '', heading.lower()) for heading in headings]
    return {heading.replace(' ', '-') for heading in plain}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        file = (page.parent / target) if target else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), f'{target}#{anchor}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r'(?<![\w/.])(?:tools|configs|benchmarks)/[\w/]+\.(?:py|sh)', page.read_text()
    )
    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing <= {'configs/mixed/NAME.py'}  # what a reader is told to write


def test_the_pages_are_all_found() -> None:
    assert len(PAGES) > 18
    pages = {page.name for page in PAGES}
    assert {'README.md', 'method.md', 'mixing.md', 'config.md', 'commands.md'} <= pages


def test_the_first_two_commands() -> None:
    readme = (ROOT / 'README.md').read_text()
    commands = re.findall(r'^bash (\S+)', readme, flags=re.MULTILINE)
    assert commands[:2] == ['tools/quickstart.sh', 'tools/run_tests.sh']


def test_code_refers_to_sections_of_the_method_that_exist() -> None:
    page = (ROOT / 'docs' / 'method.md').read_text()
    sections = re.findall(r'^#+ (\d\w?)\. ', page, re.MULTILINE)
    assert sections == ['1', '2', '2a', '2b', '2c', '2d', '3', '4', '5', '6']
    for file in [*(ROOT / 'mmkdlayer').rglob('*.py'), *(ROOT / 'tools').glob('*.py')]:
        for section in re.findall(r'method\.md`*, sections? (\w+)', file.read_text()):
            assert section in sections, file
