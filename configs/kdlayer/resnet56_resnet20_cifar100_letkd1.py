# letKD-1 on CIFAR-100: ResNet-56 teaches ResNet-20, at the penultimate layer only.
_base_ = [
    '../_base_/models/cifar/resnet20.py',
    '../_base_/models/cifar/resnet56.py',
    '../_base_/letkd1.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]

model = dict(
    architecture=_base_.resnet20,
    teacher=_base_.resnet56,
    teacher_ckpt='checkpoints/resnet56_cifar100.pth',
    distiller=dict(
        kd_layers=dict(penult='backbone.layer3'),
        connectors=dict(penult=dict(in_channels=64, num_templates=4096)),
        teacher_recorders=dict(penult=dict(source='backbone.layer3')),
        distill_losses=dict(loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0))),
    ),
)
