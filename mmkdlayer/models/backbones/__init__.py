"""The 32x32 networks of the knowledge distillation literature, and MobileNetV1 for ImageNet."""

from .cifar_mobilenet_v2 import CifarMobileNetV2
from .cifar_resnet import CifarResNet
from .cifar_shufflenet_v1 import CifarShuffleNetV1
from .cifar_shufflenet_v2 import CifarShuffleNetV2
from .cifar_wide_resnet import CifarWideResNet
from .mobilenet_v1 import MobileNetV1

__all__ = [
    'CifarMobileNetV2',
    'CifarResNet',
    'CifarShuffleNetV1',
    'CifarShuffleNetV2',
    'CifarWideResNet',
    'MobileNetV1',
]
