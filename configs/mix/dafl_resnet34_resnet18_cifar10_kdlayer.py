# DAFL (data-free), with letKD-1 added.
_base_ = ['./dafl_resnet34_resnet18_cifar10.py', './_base_/letkd1_data_free.py']

model = dict(architecture=dict(_base_.student, _delete_=True), distiller=_base_.distiller)
