"""The catalogue of pair configs: quoted accuracies, measured costs, and the pages made of them."""

from .entries import Entry, load_entries
from .pages import render_pages

__all__ = ['Entry', 'load_entries', 'render_pages']
