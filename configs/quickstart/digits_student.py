# The student on its own: a plain mmpretrain training, the baseline.
_base_ = './_base_.py'
custom_hooks = [
    dict(type='mmkdlayer.CheckDataHook'),
    dict(type='mmkdlayer.CheckFiniteHook'),
    dict(type='mmkdlayer.PreemptionHook'),
]
model = _base_.student
