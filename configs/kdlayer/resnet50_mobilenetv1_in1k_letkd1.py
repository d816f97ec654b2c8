# letKD-1 on ImageNet: ResNet-50 teaches MobileNetV1, at the penultimate layer only.
_base_ = './resnet50_mobilenetv1_in1k.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
