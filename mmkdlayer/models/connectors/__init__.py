"""The KD layer."""

from .kd_layer_connector import KDLayerConnector, UnitConv2d

__all__ = ['KDLayerConnector', 'UnitConv2d']
