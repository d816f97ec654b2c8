# Weighted transformed teacher matching (WTTM, ICLR 2024): `wttm` goes into the distiller of a pair.
# gamma and weight are the authors' for VGG-13 -> VGG-8 on CIFAR-100, where CRD is added.
wttm = dict(
    student_recorders=dict(
        logits=dict(type='ModuleOutputs', source='head.fc')),
    teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
    distill_losses=dict(loss_wttm=dict(type='mmkdlayer.WTTMLoss', gamma=0.2, loss_weight=4)),
    loss_forward_mappings=dict(
        loss_wttm=dict(
            preds_S=dict(recorder='logits', from_student=True),
            preds_T=dict(recorder='logits', from_student=False))))
