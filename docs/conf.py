"""Sphinx's configuration: ``python -m sphinx -W -b html docs docs/_build/html``; needs no network."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / '_ext')]

import mmkdlayer  # noqa: E402  (makes the host libraries work, before autodoc imports them)

project = 'mmkdlayer'
author = 'the mmkdlayer contributors'
version = release = mmkdlayer.__version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'command_help']
exclude_patterns = ['_build', '**.ipynb_checkpoints']
html_theme = 'furo'
html_title = f'mmkdlayer {version}'
html_show_copyright = False

# Headings as GitHub names them, so that links work in both places.
myst_heading_anchors = 3
nb_execution_mode = 'off'  # tests/docs runs the notebook

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented_params'
napoleon_google_docstring = True
napoleon_numpy_docstring = False


#: Files outside this folder that are pages of the site: each page includes its file.
PAGES = {
    'README.md': 'results.md',  # README.md#results is what is linked
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
    'benchmarks/README.md': 'benchmarks.md',
    'configs/kdlayer/README.md': 'pairs.md',
}
LINK = re.compile(r'\[([^]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)')


def move_links(text: str, source: Path, page: Path) -> str:
    """Turn the relative links of a file, such as CHANGELOG.md, into those of the page that shows it.

    Args:
        text: Markdown, in which links work on GitHub.
        source: The file that has this text.
        page: The page of the site.
    """

    def moved(link: re.Match) -> str:
        label, target, anchor = link.groups(default='')
        file = (source.parent / target).resolve()
        if not file.is_file():
            return label if file.is_dir() else link[0]  # a folder has no page
        name = file.relative_to(ROOT).as_posix()
        file = DOCS / PAGES[name] if name in PAGES else file
        return f'[{label}]({os.path.relpath(file, page.parent)}{anchor})'

    return LINK.sub(moved, text)


def read_page(app: Sphinx, docname: str, content: list[str]) -> None:
    """Sphinx has read a page of this folder."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == '.md':
        content[0] = move_links(content[0], page, page)


def read_included(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """Sphinx has read a file that a page includes."""
    content[0] = move_links(content[0], DOCS / path, Path(app.env.doc2path(docname)))


#: The page that tools/quickstart.sh writes: the gallery has it, where there is one.
REPORT = ROOT / 'work_dirs' / 'quickstart' / 'report' / 'index.html'


def copy_report(app: Sphinx, error: Exception | None) -> None:
    """Sphinx has built the pages."""
    if error is None and REPORT.is_file():
        target = Path(app.outdir, 'gallery', 'digits.html')
        target.parent.mkdir(exist_ok=True)
        shutil.copy(REPORT, target)


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    if REPORT.is_file():
        app.tags.add('gallery')
    app.connect('build-finished', copy_report)
    app.connect('source-read', read_page)
    app.connect('include-read', read_included)
