# Baseline, CIFAR-100, ResNet-56 teaches ResNet-20: KD of the logits (Hinton et al., 2015), with the
# weights and temperature that the literature's tables use: 0.1 x labels + 0.9 x KD at temperature 4.
_base_ = '../kdlayer/resnet56_resnet20_cifar100.py'

model = dict(
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.1))),
    distiller=dict(
        _delete_=True,
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source='head.fc')),
        distill_losses=dict(loss_kd=dict(type='mmrazor.KLDivergence', tau=4, loss_weight=0.9)),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False)))))
