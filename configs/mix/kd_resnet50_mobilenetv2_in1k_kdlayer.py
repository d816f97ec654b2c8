# Logit distillation, with letKD-2 added.
_base_ = ['./kd_resnet50_mobilenetv2_in1k.py', './_base_/letkd2_in1k.py']

model = dict(
    distiller=dict(
        _base_.letkd,
        kd_layers=dict(
            inter=dict(_base_.letkd.kd_layers.inter, module='backbone.layer6.0', in_channels=160),
            penult=dict(_base_.letkd.kd_layers.penult, module='backbone.conv2', in_channels=1280))))
