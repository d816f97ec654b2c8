# letKD-2 for a ResNet-18 on ImageNet, as an addition to any recipe with one teacher: `letkd` goes into
# the recipe's distiller. The teacher is a ResNet with four stages.
_base_ = '../../_base_/letkd2.py'

letkd = dict(
    _base_.pop('model').distiller,
    kd_layers=dict(inter='backbone.layer4.0', penult='backbone.layer4'),
    connectors=dict(
        inter=dict(type='mmkdlayer.KDLayerConnector', in_channels=512, num_templates=8000),
        penult=dict(type='mmkdlayer.KDLayerConnector', in_channels=512, num_templates=4096),
    ),
    teacher_recorders=dict(
        inter=dict(type='ModuleOutputs', source='backbone.layer4.0'),
        penult=dict(type='ModuleOutputs', source='backbone.layer4'),
    ),
    distill_losses=dict(
        loss_inter=dict(
            type='mmkdlayer.TeacherDecisionLoss',
            decision=dict(
                type='mmkdlayer.SubclassDecision',
                num_classes=1000,
                num_subclasses=8,
                num_components=60,
            ),
        ),
        loss_penult=dict(
            type='mmkdlayer.TeacherDecisionLoss',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096),
        ),
    ),
)
custom_hooks = [
    dict(type='mmkdlayer.CheckWeightsHook'),
    dict(type='mmkdlayer.FitDecisionsHook'),
    dict(type='mmkdlayer.ReleaseRecordsHook'),
    dict(type='mmkdlayer.KDMetricsHook', interval=100),
]
