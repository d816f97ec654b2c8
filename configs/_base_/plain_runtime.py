# What every training here shares: mmpretrain's runtime, this plugin, and that a signal (of Slurm, say)
# saves and ends it.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)
custom_hooks = [
    dict(type='mmkdlayer.CheckDataHook'),
    dict(type='mmkdlayer.CheckFiniteHook'),
    dict(type='mmkdlayer.PreemptionHook'),
]
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3, save_best='auto'))

# A fixed seed, so that a run that is started again has the same student and finds its decisions.
randomness = dict(seed=0)
val_cfg = dict()
test_cfg = dict()
