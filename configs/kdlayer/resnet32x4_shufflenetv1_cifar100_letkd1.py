# letKD-1 on CIFAR-100: ResNet-32x4 teaches ShuffleNetV1, at the penultimate layer only.
_base_ = [
    '../_base_/models/cifar/shufflenetv1.py',
    '../_base_/models/cifar/resnet32x4.py',
    '../_base_/letkd1.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.01))

model = dict(
    architecture=_base_.shufflenetv1,
    teacher=_base_.resnet32x4,
    teacher_ckpt='checkpoints/resnet32x4_cifar100.pth',
    distiller=dict(
        kd_layers=dict(penult='backbone.layers.2'),
        connectors=dict(penult=dict(in_channels=960, num_templates=4096)),
        teacher_recorders=dict(penult=dict(source='backbone.layer3')),
        distill_losses=dict(loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0))),
    ),
)
