# Ablation, CIFAR-100, ResNet-56 teaches ResNet-20: intermediate layer only, alpha 1.
_base_ = '../kdlayer/resnet56_resnet20_cifar100.py'
model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, inter=_base_.model.distiller.kd_layers.inter)))
