# Baseline, CIFAR-100: ResNet-20 with both KD layers of letKD-2, but no teacher (capacity control).
_base_ = [
    '../_base_/models/cifar/resnet20.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
custom_hooks = []
model = dict(
    _base_.resnet20,
    type='mmkdlayer.KDLayerClassifier',
    kd_layers=dict(
        inter=dict(module='backbone.layer3.0', in_channels=64, num_templates=800),
        penult=dict(module='backbone.layer3', in_channels=64, num_templates=4096),
    ),
)
