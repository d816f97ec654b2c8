# letKD-2 on CIFAR-100: WRN-40-2 teaches ShuffleNetV1.
_base_ = [
    '../_base_/models/cifar/shufflenetv1.py',
    '../_base_/models/cifar/wrn40-2.py',
    '../_base_/letkd2.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.01))

model = dict(
    architecture=_base_.shufflenetv1,
    teacher=_base_.wrn40_2,
    teacher_ckpt='checkpoints/wrn40-2_cifar100.pth',
    distiller=dict(
        kd_layers=dict(inter='backbone.layers.2.0', penult='backbone.layers.2'),
        connectors=dict(
            inter=dict(in_channels=960, num_templates=800),
            penult=dict(in_channels=960, num_templates=4096),
        ),
        teacher_recorders=dict(
            inter=dict(source='backbone.layer3.0'),
            penult=dict(source='backbone.layer3'),
        ),
        # 100 classes x 8 sub-classes = 800 templates; 4096 centroids
        distill_losses=dict(
            loss_inter=dict(decision=dict(num_classes=100, num_subclasses=8, num_components=60)),
            loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0)),
        ),
    ),
)
