# ResNet-20 with the KD layers of letKD-2, and no teacher: what the capacity alone gives.
_base_ = './student.py'

model = dict(
    type='mmkdlayer.KDLayerClassifier',
    kd_layers=dict(
        inter=dict(module='backbone.layer3.0', in_channels=64, num_templates=800),
        penult=dict(module='backbone.layer3', in_channels=64, num_templates=4096)))
