# letKD-1: one KD layer, after the last map before pooling ("penult"), supervised by soft assignment to
# the teacher's centroids. A pair's config adds what letkd2.py names, for this layer alone.
model = dict(
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    distiller=dict(
        type='mmkdlayer.KDLayerDistiller',
        connectors=dict(penult=dict(type='mmkdlayer.KDLayerConnector', alpha=1.0)),
        student_recorders=dict(
            penult_scores=dict(type='ModuleOutputs', source='kd_layers.penult.templates')
        ),
        teacher_recorders=dict(penult=dict(type='ModuleOutputs')),
        distill_losses=dict(
            loss_penult=dict(
                type='mmkdlayer.TeacherDecisionLoss',
                decision=dict(type='mmkdlayer.CentroidDecision'),
            )
        ),
        loss_forward_mappings=dict(
            loss_penult=dict(
                scores=dict(recorder='penult_scores', from_student=True),
                teacher_feature=dict(recorder='penult', from_student=False),
            )
        ),
    ),
)
