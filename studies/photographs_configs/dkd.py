# DKD (CVPR 2022), with its authors' weights for this pair on CIFAR-100: alpha 1, beta 2, temperature
# 4; without their warm-up of 20 of 240 epochs.
_base_ = './logits.py'

model = dict(
    distiller=dict(
        student_recorders=dict(
            labels=dict(type='mmrazor.ModuleInputs', source='head.loss_module')),
        distill_losses=dict(
            loss_kd=dict(type='mmrazor.DKDLoss', tau=4, alpha=1, beta=2)),
        loss_forward_mappings=dict(
            loss_kd=dict(gt_labels=dict(recorder='labels', from_student=True, data_idx=1)))))
