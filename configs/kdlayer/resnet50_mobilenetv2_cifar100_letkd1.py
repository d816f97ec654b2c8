# letKD-1 on CIFAR-100: ResNet-50 teaches MobileNetV2, at the penultimate layer only.
_base_ = './resnet50_mobilenetv2_cifar100.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
