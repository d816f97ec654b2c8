# Logit distillation, with letKD-2 added.
_base_ = ['./kd_resnet50_shufflenetv2_in1k.py', './_base_/letkd2_in1k.py']

model = dict(
    distiller=dict(
        _base_.letkd,
        kd_layers=dict(
            inter=dict(_base_.letkd.kd_layers.inter, module='backbone.layers.2.0', in_channels=464),
            penult=dict(_base_.letkd.kd_layers.penult, module='backbone.layers.3', in_channels=1024))))
