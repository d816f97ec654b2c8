# letKD-1 on ImageNet: ResNet-50 teaches MobileNetV1, at the penultimate layer only.
_base_ = [
    '../_base_/models/mobilenetv1.py',
    '../_base_/models/resnet50.py',
    '../_base_/letkd1.py',
    '../_base_/datasets/imagenet_bs256.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/runtime.py',
]

model = dict(
    architecture=_base_.mobilenetv1,
    teacher=_base_.resnet50,
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    distiller=dict(
        kd_layers=dict(penult='backbone.layer5'),
        connectors=dict(penult=dict(in_channels=1024, num_templates=4096)),
        teacher_recorders=dict(penult=dict(source='backbone.layer4')),
        distill_losses=dict(loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0))),
    ),
)
