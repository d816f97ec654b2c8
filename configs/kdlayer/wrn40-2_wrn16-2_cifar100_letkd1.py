# letKD-1 on CIFAR-100: WRN-40-2 teaches WRN-16-2, at the penultimate layer only.
_base_ = './wrn40-2_wrn16-2_cifar100.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
