# Baseline, CIFAR-100, ResNet-56 teaches ResNet-20: KD of the logits (Hinton et al., 2015), with the
# weights and temperature that the literature's tables use: 0.1 x labels + 0.9 x KD at temperature 4.
_base_ = [
    '../_base_/models/cifar/resnet20.py',
    '../_base_/models/cifar/resnet56.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]

model = dict(
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=dict(
        _base_.resnet20,
        head=dict(_base_.resnet20.head, loss=dict(type='CrossEntropyLoss', loss_weight=0.1)),
    ),
    teacher=_base_.resnet56,
    teacher_ckpt='checkpoints/resnet56_cifar100.pth',
    distiller=dict(
        type='ConfigurableDistiller',
        student_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
        distill_losses=dict(loss_kd=dict(type='KLDivergence', tau=4, loss_weight=0.9)),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False),
            )
        ),
    ),
)
