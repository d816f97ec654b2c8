# letKD-1: the penultimate layer alone.
_base_ = './letkd2.py'

model = dict(
    distiller=dict(kd_layers=dict(_delete_=True, penult=_base_.model.distiller.kd_layers.penult)))
