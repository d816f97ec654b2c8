# letKD-2: a KD layer after the first block of the student's last stage ("inter"), supervised by the
# teacher's decisions over sub-classes, and one after the last map before pooling ("penult"),
# supervised by soft assignment to the teacher's centroids.
#
# A pair's config adds: architecture, teacher, where the layers go (kd_layers), their channels, and
# where the teacher is read (teacher_recorders).
model = dict(
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    distiller=dict(
        type='mmkdlayer.KDLayerDistiller',
        connectors=dict(
            inter=dict(type='mmkdlayer.KDLayerConnector', alpha=1.0),
            penult=dict(type='mmkdlayer.KDLayerConnector', alpha=1.0),
        ),
        student_recorders=dict(
            inter_scores=dict(type='ModuleOutputs', source='kd_layers.inter.templates'),
            penult_scores=dict(type='ModuleOutputs', source='kd_layers.penult.templates'),
            gt_label=dict(type='ModuleInputs', source='head.loss_module'),
        ),
        teacher_recorders=dict(
            inter=dict(type='ModuleOutputs'),
            penult=dict(type='ModuleOutputs'),
        ),
        distill_losses=dict(
            loss_inter=dict(
                type='mmkdlayer.TeacherDecisionLoss',
                decision=dict(type='mmkdlayer.SubclassDecision'),
            ),
            loss_penult=dict(
                type='mmkdlayer.TeacherDecisionLoss',
                decision=dict(type='mmkdlayer.CentroidDecision'),
            ),
        ),
        loss_forward_mappings=dict(
            loss_inter=dict(
                scores=dict(recorder='inter_scores', from_student=True),
                teacher_feature=dict(recorder='inter', from_student=False),
                gt_label=dict(recorder='gt_label', from_student=True, data_idx=1),
            ),
            loss_penult=dict(
                scores=dict(recorder='penult_scores', from_student=True),
                teacher_feature=dict(recorder='penult', from_student=False),
            ),
        ),
    ),
)
