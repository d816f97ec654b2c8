# Trainings without distillation.
_base_ = ['../../configs/_base_/plain_runtime.py', './_base_.py']

default_hooks = dict(
    checkpoint=dict(interval=3, max_keep_ckpts=1, save_best=None), logger=dict(interval=20))
