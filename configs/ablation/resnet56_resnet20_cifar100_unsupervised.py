# Baseline, CIFAR-100: ResNet-20 with both KD layers of letKD-2, but no teacher (capacity control).
_base_ = './resnet56_resnet20_cifar100_student.py'

model = dict(
    type='mmkdlayer.KDLayerClassifier',
    kd_layers=dict(
        inter=dict(module='backbone.layer3.0', in_channels=64, num_templates=800),
        penult=dict(module='backbone.layer3', in_channels=64, num_templates=4096)))
