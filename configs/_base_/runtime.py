# What every distillation here shares: the plain runtime, and the hooks of this plugin.
_base_ = './plain_runtime.py'

custom_hooks = [
    dict(type='mmkdlayer.CheckWeightsHook'),  # stops on weights of another network
    dict(type='mmkdlayer.FitDecisionsHook'),  # fits the decisions before training
    dict(type='mmkdlayer.ReleaseRecordsHook'),  # drops what was recorded after each step
    dict(type='mmkdlayer.KDMetricsHook', interval=100),  # logs how the templates are used
    dict(type='mmkdlayer.CheckDataHook'),  # stops on data that do not fit the student
    dict(type='mmkdlayer.CheckFiniteHook'),  # stops on a loss that is NaN
    dict(type='mmkdlayer.PreemptionHook'),  # saves and ends on a signal
]
