# letKD-2, whose templates learn 16 and 4 times as fast: as one of 256 and one of 200 would.
_base_ = './letkd2.py'

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={
    'kd_layers.penult.templates.weight': dict(lr_mult=16),
    'kd_layers.inter.templates.weight': dict(lr_mult=4)}))
