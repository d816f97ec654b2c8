# letKD-2 with KD of standardised logits.
_base_ = './letkd2.py'

model = dict(
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.1))),
    distiller=dict(
        student_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source='head.fc')),
        distill_losses=dict(
            loss_kd=dict(
                type='mmkdlayer.LogitStandardization',
                loss=dict(type='mmrazor.KLDivergence', tau=2, loss_weight=9))),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False)))))
