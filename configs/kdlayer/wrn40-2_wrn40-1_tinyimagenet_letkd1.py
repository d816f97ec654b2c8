# letKD-1 on Tiny-ImageNet: WRN-40-2 teaches WRN-40-1, at the penultimate layer only.
_base_ = './wrn40-2_wrn40-1_tinyimagenet.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
