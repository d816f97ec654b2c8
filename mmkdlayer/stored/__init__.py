"""Decisions of a teacher that were stored once, and training that reads them in place of the teacher."""

from .files import Store
from .stored_decisions_hook import StoredDecisionsHook
from .stored_views import StoredViews, view_sampler
from .training import take_out_store, use_store

__all__ = [
    'Store',
    'StoredDecisionsHook',
    'StoredViews',
    'take_out_store',
    'use_store',
    'view_sampler',
]
