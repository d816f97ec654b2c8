# Factor transfer, second phase, with letKD-2 added. The loss of the first phase, which the recipe
# inherits and does not use, is taken out.
_base_ = ['./ft_train_resnet50_resnet18_cifar10.py', './_base_/letkd2_cifar10.py']

model = dict(distiller=dict(_base_.letkd, distill_losses=dict(loss_s4_pretrain=None)))
