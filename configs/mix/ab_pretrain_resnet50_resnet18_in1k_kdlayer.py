# Activation boundaries, first phase (no labels), with letKD-2 added.
_base_ = ['./ab_pretrain_resnet50_resnet18_in1k.py', './_base_/letkd2_in1k.py']

model = dict(distiller=_base_.letkd)
