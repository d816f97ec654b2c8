# letKD-1 on CIFAR-100: ResNet-50 teaches MobileNetV2, at the penultimate layer only.
_base_ = [
    '../_base_/models/cifar/mobilenetv2.py',
    '../_base_/models/cifar/resnet50.py',
    '../_base_/letkd1.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.01))

model = dict(
    architecture=_base_.mobilenetv2,
    teacher=_base_.resnet50,
    teacher_ckpt='checkpoints/resnet50_cifar100.pth',
    distiller=dict(
        kd_layers=dict(penult='backbone.conv2'),
        connectors=dict(penult=dict(in_channels=1280, num_templates=4096, alpha=0.1)),
        teacher_recorders=dict(penult=dict(source='backbone.layer4')),
        distill_losses=dict(loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0))),
    ),
)
