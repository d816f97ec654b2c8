# Ablation, CIFAR-100, ResNet-56 teaches ResNet-20: penultimate layer only, alpha 0 (QUEST).
_base_ = '../kdlayer/resnet56_resnet20_cifar100_letkd1.py'
model = dict(distiller=dict(kd_layers=dict(penult=dict(alpha=0.0))))
