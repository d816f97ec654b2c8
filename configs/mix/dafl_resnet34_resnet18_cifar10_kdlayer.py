# DAFL (data-free), with letKD-1 added.
_base_ = [
    './dafl_resnet34_resnet18_cifar10.py',
    './_base_/resnet18_cifar.py',
    './_base_/letkd1_data_free.py',
]

model = dict(
    architecture=dict(
        _base_.resnet18_cifar,
        _delete_=True,
        type='mmkdlayer.KDLayerClassifier',
        kd_layers=_base_.kd_layers,
    ),
    distiller=_base_.losses,
)
