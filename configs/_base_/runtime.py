# What every config here shares: mmpretrain's runtime, this plugin, and its hooks.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

custom_hooks = [
    dict(type='mmkdlayer.CheckWeightsHook'),  # stops on weights of another network
    dict(type='mmkdlayer.FitDecisionsHook'),  # fits the decisions before training
    dict(type='mmkdlayer.ReleaseRecordsHook'),  # drops what was recorded after each step
    dict(type='mmkdlayer.KDMetricsHook', interval=100),  # logs how the templates are used
]
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3, save_best='auto'))

# A fixed seed, so that a run that is started again has the same student and finds its decisions.
randomness = dict(seed=0)
