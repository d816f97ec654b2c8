# letKD-1 on CIFAR-100: ResNet-32x4 teaches ShuffleNetV2, at the penultimate layer only.
_base_ = './resnet32x4_shufflenetv2_cifar100.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
