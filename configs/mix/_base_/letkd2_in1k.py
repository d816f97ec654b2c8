# letKD-2 for a ResNet-18 on ImageNet, as an addition to any recipe with one teacher: `letkd` goes into
# the recipe's distiller. The teacher is a ResNet with four stages.
letkd = dict(
    type='mmkdlayer.KDLayerDistiller',
    kd_layers=dict(
        inter=dict(
            module='backbone.layer4.0', in_channels=512, teacher='backbone.layer4.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=1000)),
        penult=dict(
            module='backbone.layer4', in_channels=512, teacher='backbone.layer4',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096))))
custom_hooks = [
    dict(type='mmkdlayer.CheckWeightsHook'),
    dict(type='mmkdlayer.FitDecisionsHook'),
    dict(type='mmkdlayer.ReleaseRecordsHook'),
    dict(type='mmkdlayer.KDMetricsHook', interval=100),
    dict(type='mmkdlayer.CheckDataHook'),
    dict(type='mmkdlayer.CheckFiniteHook'),
    dict(type='mmkdlayer.PreemptionHook'),
]
