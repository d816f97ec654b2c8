# ResNet-56 teaches ResNet-20; the distiller is missing.
_base_ = ['../../configs/_base_/runtime.py', './_base_.py']

default_hooks = dict(
    checkpoint=dict(interval=3, max_keep_ckpts=1, save_best=None), logger=dict(interval=20))
model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=None)  # the study says it
