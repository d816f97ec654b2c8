# letKD-1 on Tiny-ImageNet: ResNet-50 teaches MobileNetV2, at the penultimate layer only.
_base_ = './resnet50_mobilenetv2_tinyimagenet.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
