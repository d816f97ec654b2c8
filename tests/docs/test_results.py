"""The tables of measured accuracy in the README are those of the results that are stored."""

from __future__ import annotations

from pathlib import Path

from studying.page import write_page, write_tables
from studying.results import read_results

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / 'studies' / 'results'


def test_readme_has_the_stored_results(tmp_path: Path) -> None:
    text = (ROOT / 'README.md').read_text()
    copy = tmp_path / 'README.md'
    copy.write_text(text)
    write_tables(read_results(STUDIES / 'photographs'), copy)
    assert copy.read_text() == text


def test_pages_have_the_stored_results(tmp_path: Path) -> None:
    found = {path.parent.name for path in STUDIES.glob('*/results.json')}
    assert 'photographs' in found
    for name in found:
        write_page(read_results(STUDIES / name), tmp_path / name)
        assert (tmp_path / name / 'page.md').read_text() == (STUDIES / name / 'page.md').read_text()
