# Overhaul of feature distillation, with letKD-2 added. It needs its own distiller, so the student brings
# its KD layers (KDLayerClassifier), and recorders and mappings are mmrazor's.
_base_ = './ofd_wrn28-4_wrn16-2_cifar10.py'

model = dict(
    architecture=dict(
        _delete_=True,
        type='mmkdlayer.KDLayerClassifier',
        backbone=dict(type='mmrazor.WideResNet', depth=16, num_stages=3, widen_factor=2),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=10, in_channels=128,
            loss=dict(type='mmpretrain.CrossEntropyLoss')),
        kd_layers=dict(
            inter=dict(module='backbone.layer3.0', in_channels=128, num_templates=80),
            penult=dict(module='backbone.relu', in_channels=128, num_templates=4096))),
    distiller=dict(
        student_recorders=dict(
            inter_scores=dict(type='ModuleOutputs', source='kd_layers.inter.templates'),
            penult_scores=dict(type='ModuleOutputs', source='kd_layers.penult.templates'),
            gt_label=dict(type='ModuleInputs', source='head.loss_module')),
        teacher_recorders=dict(
            inter=dict(type='ModuleOutputs', source='backbone.layer3.0'),
            penult=dict(type='ModuleOutputs', source='backbone.relu')),
        distill_losses=dict(
            loss_inter=dict(
                type='mmkdlayer.TeacherDecisionLoss',
                decision=dict(
                    type='mmkdlayer.SubclassDecision', num_classes=10, num_components=8)),
            loss_penult=dict(
                type='mmkdlayer.TeacherDecisionLoss',
                decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096))),
        loss_forward_mappings=dict(
            loss_inter=dict(
                scores=dict(recorder='inter_scores', from_student=True),
                teacher_feature=dict(recorder='inter', from_student=False),
                gt_label=dict(recorder='gt_label', from_student=True, data_idx=1)),
            loss_penult=dict(
                scores=dict(recorder='penult_scores', from_student=True),
                teacher_feature=dict(recorder='penult', from_student=False)))))
custom_hooks = [
    dict(type='mmkdlayer.CheckWeightsHook'),
    dict(type='mmkdlayer.FitDecisionsHook'),
    dict(type='mmkdlayer.ReleaseRecordsHook'),
    dict(type='mmkdlayer.KDMetricsHook', interval=100),
    dict(type='mmkdlayer.CheckDataHook'),
    dict(type='mmkdlayer.CheckFiniteHook'),
    dict(type='mmkdlayer.PreemptionHook'),
]
