# letKD-2 on ImageNet: ResNet-50 teaches MobileNetV1.
# This is the pair that the paper calls ResNet-50 -> "MNV2": its published code builds a MobileNetV1.
_base_ = [
    '../_base_/models/mobilenetv1.py',
    '../_base_/models/resnet50.py',
    '../_base_/letkd2.py',
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
        kd_layers=dict(inter='backbone.layer5.0', penult='backbone.layer5'),
        connectors=dict(
            inter=dict(in_channels=1024, num_templates=8000),
            penult=dict(in_channels=1024, num_templates=4096),
        ),
        teacher_recorders=dict(
            inter=dict(source='backbone.layer4.0'),
            penult=dict(source='backbone.layer4'),
        ),
        # 1000 classes x 8 sub-classes = 8000 templates; 4096 centroids
        distill_losses=dict(
            loss_inter=dict(decision=dict(num_classes=1000, num_subclasses=8, num_components=60)),
            loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0)),
        ),
    ),
)
