# letKD-1 for a data-free training. Generated images have no labels, so no sub-classes, and there are no
# data to fit on: the decision comes from a file, which tools/fit_decisions.py writes where the data are.
student = dict(
    type='mmkdlayer.KDLayerClassifier',
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=10, in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss')),
    kd_layers=dict(penult=dict(module='backbone.layer4', in_channels=512, num_templates=4096)))
distiller = dict(
    student_recorders=dict(
        penult_scores=dict(type='ModuleOutputs', source='kd_layers.penult.templates')),
    teacher_recorders=dict(penult=dict(type='ModuleOutputs', source='res34.backbone.layer4')),
    distill_losses=dict(
        loss_penult=dict(
            type='mmkdlayer.TeacherDecisionLoss',
            decision=dict(
                type='mmkdlayer.CentroidDecision', num_centroids=4096,
                file='checkpoints/resnet34_cifar10_penult.safetensors'))),
    loss_forward_mappings=dict(
        loss_penult=dict(
            scores=dict(recorder='penult_scores', from_student=True),
            teacher_feature=dict(recorder='penult', from_student=False))))
custom_hooks = [
    dict(type='mmkdlayer.CheckWeightsHook'),
    dict(type='mmkdlayer.FitDecisionsHook'),
    dict(type='mmkdlayer.ReleaseRecordsHook'),
    dict(type='mmkdlayer.KDMetricsHook', interval=100),
    dict(type='mmkdlayer.CheckDataHook'),
    dict(type='mmkdlayer.CheckFiniteHook'),
    dict(type='mmkdlayer.PreemptionHook'),
]
