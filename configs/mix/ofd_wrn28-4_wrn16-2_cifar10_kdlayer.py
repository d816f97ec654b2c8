# Overhaul of feature distillation, with letKD-2 added. It needs its own distiller, so the student brings
# its KD layers (KDLayerClassifier).
_base_ = [
    './ofd_wrn28-4_wrn16-2_cifar10.py',
    './_base_/wrn16-2.py',
    './_base_/letkd2_cifar10.py',
]

model = dict(
    architecture=dict(
        _base_.wrn16_2,
        _delete_=True,
        type='mmkdlayer.KDLayerClassifier',
        kd_layers=dict(
            inter=dict(module='backbone.layer3.0', in_channels=128, num_templates=80),
            penult=dict(module='backbone.relu', in_channels=128, num_templates=4096),
        ),
    ),
    distiller=dict(
        _base_.losses,
        teacher_recorders=dict(
            inter=dict(type='ModuleOutputs', source='backbone.layer3.0'),
            penult=dict(type='ModuleOutputs', source='backbone.relu'),
        ),
    ),
)
