# The teacher: a plain mmpretrain training.
_base_ = './_base_.py'
custom_hooks = []
model = _base_.teacher
