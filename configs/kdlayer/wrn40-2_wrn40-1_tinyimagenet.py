# letKD-2 on Tiny-ImageNet: WRN-40-2 teaches WRN-40-1.
_base_ = [
    '../_base_/models/cifar/wrn40-1.py',
    '../_base_/models/cifar/wrn40-2.py',
    '../_base_/letkd2.py',
    '../_base_/datasets/tinyimagenet.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]

model = dict(
    architecture=dict(_base_.wrn40_1, head=dict(_base_.wrn40_1.head, num_classes=200)),
    teacher=dict(_base_.wrn40_2, head=dict(_base_.wrn40_2.head, num_classes=200)),
    teacher_ckpt='checkpoints/wrn40-2_tinyimagenet.pth',
    distiller=dict(
        kd_layers=dict(inter='backbone.layer3.0', penult='backbone.layer3'),
        connectors=dict(
            inter=dict(in_channels=64, num_templates=1600),
            penult=dict(in_channels=64, num_templates=4096),
        ),
        teacher_recorders=dict(
            inter=dict(source='backbone.layer3.0'),
            penult=dict(source='backbone.layer3'),
        ),
        # 200 classes x 8 sub-classes = 1600 templates; 4096 centroids
        distill_losses=dict(
            loss_inter=dict(decision=dict(num_classes=200, num_subclasses=8, num_components=60)),
            loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0)),
        ),
    ),
)
