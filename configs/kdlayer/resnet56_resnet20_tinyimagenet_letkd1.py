# letKD-1 on Tiny-ImageNet: ResNet-56 teaches ResNet-20, at the penultimate layer only.
_base_ = './resnet56_resnet20_tinyimagenet.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
