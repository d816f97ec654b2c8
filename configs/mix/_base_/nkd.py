# Normalised KD (NKD, ICCV 2023): `nkd` goes into the distiller of a pair. The weights are the authors'
# for ImageNet.
nkd = dict(
    student_recorders=dict(
        logits=dict(type='ModuleOutputs', source='head.fc'),
        labels=dict(type='ModuleInputs', source='head.loss_module')),
    teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
    distill_losses=dict(loss_nkd=dict(type='mmkdlayer.NKDLoss', gamma=1.5, tau=1)),
    loss_forward_mappings=dict(
        loss_nkd=dict(
            preds_S=dict(recorder='logits', from_student=True),
            preds_T=dict(recorder='logits', from_student=False),
            gt_labels=dict(recorder='labels', from_student=True, data_idx=1))))
