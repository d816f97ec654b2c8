# letKD-2 on ImageNet: ResNet-50 teaches MobileNetV2.
# The paper names this pair, but its published code builds a MobileNetV1 (resnet50_mobilenetv1_in1k):
# no published figure belongs to this one.
_base_ = [
    '../_base_/models/mobilenetv2.py',
    '../_base_/models/resnet50.py',
    '../_base_/letkd2.py',
    '../_base_/datasets/imagenet_bs256.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/runtime.py',
]

model = dict(
    architecture=_base_.mobilenetv2,
    teacher=_base_.resnet50,
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    distiller=dict(
        kd_layers=dict(inter='backbone.layer6.0', penult='backbone.conv2'),
        connectors=dict(
            inter=dict(in_channels=160, num_templates=8000),
            penult=dict(in_channels=1280, num_templates=4096),
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
