# The intermediate KD layer alone, for ablations: after the first block of the student's last stage,
# supervised by the teacher's decisions over sub-classes. A pair's config adds what letkd2.py names.
model = dict(
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    distiller=dict(
        type='mmkdlayer.KDLayerDistiller',
        connectors=dict(inter=dict(type='mmkdlayer.KDLayerConnector', alpha=1.0)),
        student_recorders=dict(
            inter_scores=dict(type='ModuleOutputs', source='kd_layers.inter.templates'),
            gt_label=dict(type='ModuleInputs', source='head.loss_module'),
        ),
        teacher_recorders=dict(inter=dict(type='ModuleOutputs')),
        distill_losses=dict(
            loss_inter=dict(
                type='mmkdlayer.TeacherDecisionLoss',
                decision=dict(type='mmkdlayer.SubclassDecision'),
            )
        ),
        loss_forward_mappings=dict(
            loss_inter=dict(
                scores=dict(recorder='inter_scores', from_student=True),
                teacher_feature=dict(recorder='inter', from_student=False),
                gt_label=dict(recorder='gt_label', from_student=True, data_idx=1),
            )
        ),
    ),
)
