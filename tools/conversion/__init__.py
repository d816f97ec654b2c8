"""Converts the teacher checkpoints that others published."""

from .crd import crd_network
from .networks import SourceNetwork
from .torchvision import torchvision_network
from .weights import convert_teacher

__all__ = ['SourceNetwork', 'convert_teacher', 'crd_network', 'torchvision_network']
