# letKD-2 with DKD, which has its authors' weights: see dkd.py.
_base_ = './letkd2.py'

model = dict(
    distiller=dict(
        student_recorders=dict(
            logits=dict(type='mmrazor.ModuleOutputs', source='head.fc'),
            labels=dict(type='mmrazor.ModuleInputs', source='head.loss_module')),
        teacher_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source='head.fc')),
        distill_losses=dict(
            loss_kd=dict(type='mmrazor.DKDLoss', tau=4, alpha=1, beta=2)),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False),
                gt_labels=dict(recorder='labels', from_student=True, data_idx=1)))))
