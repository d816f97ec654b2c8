# letKD-1 on CIFAR-100: ResNet-32x4 teaches ResNet-8x4, at the penultimate layer only.
_base_ = './resnet32x4_resnet8x4_cifar100.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
