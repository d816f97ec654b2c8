# letKD-1 on Tiny-ImageNet: WRN-40-2 teaches WRN-16-2, at the penultimate layer only.
_base_ = [
    '../_base_/models/cifar/wrn16-2.py',
    '../_base_/models/cifar/wrn40-2.py',
    '../_base_/letkd1.py',
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]

model = dict(
    architecture=dict(_base_.wrn16_2, head=dict(_base_.wrn16_2.head, num_classes=200)),
    teacher=dict(_base_.wrn40_2, head=dict(_base_.wrn40_2.head, num_classes=200)),
    teacher_ckpt='checkpoints/wrn40-2_tinyimagenet.pth',
    distiller=dict(
        kd_layers=dict(penult='backbone.layer3'),
        connectors=dict(penult=dict(in_channels=128, num_templates=4096)),
        teacher_recorders=dict(penult=dict(source='backbone.layer3')),
        distill_losses=dict(loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0))),
    ),
)
