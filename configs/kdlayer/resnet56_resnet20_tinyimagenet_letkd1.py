# letKD-1 on Tiny-ImageNet: ResNet-56 teaches ResNet-20, at the penultimate layer only.
_base_ = [
    '../_base_/models/cifar/resnet20.py',
    '../_base_/models/cifar/resnet56.py',
    '../_base_/letkd1.py',
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]

model = dict(
    architecture=dict(_base_.resnet20, head=dict(_base_.resnet20.head, num_classes=200)),
    teacher=dict(_base_.resnet56, head=dict(_base_.resnet56.head, num_classes=200)),
    teacher_ckpt='checkpoints/resnet56_tinyimagenet.pth',
    distiller=dict(
        kd_layers=dict(penult='backbone.layer3'),
        connectors=dict(penult=dict(in_channels=64, num_templates=4096)),
        teacher_recorders=dict(penult=dict(source='backbone.layer3')),
        distill_losses=dict(loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0))),
    ),
)
