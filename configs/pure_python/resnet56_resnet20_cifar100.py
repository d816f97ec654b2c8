# letKD-2 on CIFAR-100: ResNet-56 teaches ResNet-20. The same training as
# configs/kdlayer/resnet56_resnet20_cifar100.py, as a pure-Python config: types are classes.
from mmengine.config import read_base
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead
from mmrazor.models import SingleTeacherDistill

from mmkdlayer.models import CentroidDecision, KDLayerDistiller, SubclassDecision
from mmkdlayer.models.backbones import CifarResNet

with read_base():
    from ._base_.cifar100_240e import *  # noqa: F403

model = dict(
    type=SingleTeacherDistill,
    architecture=dict(
        type=ImageClassifier,
        backbone=dict(type=CifarResNet, depth=20),
        neck=dict(type=GlobalAveragePooling),
        head=dict(type=LinearClsHead, num_classes=100, in_channels=64)),
    teacher=dict(
        type=ImageClassifier,
        backbone=dict(type=CifarResNet, depth=56),
        neck=dict(type=GlobalAveragePooling),
        head=dict(type=LinearClsHead, num_classes=100, in_channels=64)),
    teacher_ckpt='checkpoints/resnet56_cifar100.pth',
    distiller=dict(type=KDLayerDistiller, kd_layers=dict(
        inter=dict(
            module='backbone.layer3.0', in_channels=64, teacher='backbone.layer3.0',
            decision=dict(type=SubclassDecision, num_classes=100)),
        penult=dict(
            module='backbone.layer3', in_channels=64, teacher='backbone.layer3',
            decision=dict(type=CentroidDecision, num_centroids=4096)))))
