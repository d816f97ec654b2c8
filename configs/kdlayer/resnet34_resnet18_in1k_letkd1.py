# letKD-1 on ImageNet: ResNet-34 teaches ResNet-18, at the penultimate layer only.
_base_ = [
    '../_base_/models/resnet18.py',
    '../_base_/models/resnet34.py',
    '../_base_/letkd1.py',
    '../_base_/datasets/imagenet_bs256.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/runtime.py',
]

model = dict(
    architecture=_base_.resnet18,
    teacher=_base_.resnet34,
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet34_8xb32_in1k_20210831-f257d4e6.pth',
    distiller=dict(
        kd_layers=dict(penult='backbone.layer4'),
        connectors=dict(penult=dict(in_channels=512, num_templates=4096)),
        teacher_recorders=dict(penult=dict(source='backbone.layer4')),
        distill_losses=dict(loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0))),
    ),
)
