"""Writes the config of a pair of networks: probes both, chooses the places of the KD layers."""

from .making import Pair, PairOptions, make_config

__all__ = ['Pair', 'PairOptions', 'make_config']
