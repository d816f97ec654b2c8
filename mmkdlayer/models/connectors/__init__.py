"""The KD layer."""

from .kd_layer_connector import KDLayerConnector
from .unit_conv import UnitConv2d

__all__ = ['KDLayerConnector', 'UnitConv2d']
