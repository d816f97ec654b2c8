# letKD-1 on ImageNet: ResNet-34 teaches ResNet-18, at the penultimate layer only.
_base_ = './resnet34_resnet18_in1k.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
