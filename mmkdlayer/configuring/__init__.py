"""Writes the config of a pair of networks: probes both, chooses the places of the KD layers."""

from .making import make_config
from .planning import Pair, Wishes

__all__ = ['Pair', 'Wishes', 'make_config']
