# Knowledge review (ReviewKD, CVPR 2021): `reviewkd` goes into the distiller of a pair whose backbones
# return all stages; the pair states their channels.
reviewkd = dict(
    student_recorders=dict(stages=dict(type='ModuleOutputs', source='backbone')),
    teacher_recorders=dict(stages=dict(type='ModuleOutputs', source='backbone')),
    distill_losses=dict(loss_review=dict(type='mmkdlayer.ReviewKDLoss')),
    loss_forward_mappings=dict(
        loss_review=dict(
            features_S=dict(recorder='stages', from_student=True, connector='review'),
            features_T=dict(recorder='stages', from_student=False))))
