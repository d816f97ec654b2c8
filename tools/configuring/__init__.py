"""Writes the config of a pair of networks: probes both, chooses the places of the KD layers."""

from .making import make_config
from .pair import Pair, PairOptions

__all__ = ['Pair', 'PairOptions', 'make_config']
