# Ablation, CIFAR-100, ResNet-56 teaches ResNet-20: both layers, alpha 1 at inter and 0 at penult.
_base_ = '../kdlayer/resnet56_resnet20_cifar100.py'
model = dict(distiller=dict(kd_layers=dict(penult=dict(alpha=0.0))))
