# KD of standardised logits (LS, CVPR 2024): `ls` goes into the distiller of a pair. Temperature 2 and
# weight 9 are the authors' for CIFAR-100.
ls = dict(
    student_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
    teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
    distill_losses=dict(
        loss_kd=dict(
            type='mmkdlayer.LogitStandardization',
            loss=dict(type='mmrazor.KLDivergence', tau=2, loss_weight=9))),
    loss_forward_mappings=dict(
        loss_kd=dict(
            preds_S=dict(recorder='logits', from_student=True),
            preds_T=dict(recorder='logits', from_student=False))))
