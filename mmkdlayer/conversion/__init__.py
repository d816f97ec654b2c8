"""Brings in what others published: teacher checkpoints, decision tables, data sets."""

from .checkpoints import CheckpointError
from .crd import crd_network
from .letkd import convert_decisions
from .networks import SourceNetwork
from .teachers import convert_teacher
from .tinyimagenet import arrange_validation
from .torchvision import torchvision_network

__all__ = [
    'CheckpointError',
    'SourceNetwork',
    'arrange_validation',
    'convert_decisions',
    'convert_teacher',
    'crd_network',
    'torchvision_network',
]
