"""Sphinx's configuration: ``python -m sphinx -W -b html docs docs/_build``; needs no network."""

from __future__ import annotations

import re
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

# Headings as GitHub names them, so that links work in both places.
myst_heading_anchors = 3
nb_execution_mode = 'off'  # tests/docs runs the notebook

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented_params'
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def move_links(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """Make the relative links of an included page, such as CHANGELOG.md, those of this folder."""
    folder = (DOCS / path).resolve().parent

    def moved(link: re.Match) -> str:
        text, target, anchor = link.groups()
        file = (folder / target).resolve()
        if not file.is_file():
            return text  # a folder has no page here
        if file.is_relative_to(DOCS):
            return f'[{text}]({file.relative_to(DOCS)}{anchor})'
        return f'[{text}](../{file.relative_to(ROOT)})'

    content[0] = re.sub(r'\[([^]]+)\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)', moved, content[0])


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect('include-read', move_links)
