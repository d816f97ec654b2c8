# Ablation, CIFAR-100, ResNet-56 teaches ResNet-20: intermediate layer only, alpha 0.
_base_ = './resnet56_resnet20_cifar100_inter1.py'
model = dict(distiller=dict(kd_layers=dict(inter=dict(alpha=0.0))))
