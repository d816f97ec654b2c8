# letKD-2 on ImageNet: ResNet-34 teaches ResNet-18.
_base_ = [
    '../_base_/models/resnet18.py',
    '../_base_/models/resnet34.py',
    '../_base_/letkd2.py',
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
        # where the student gets its KD layers
        kd_layers=dict(inter='backbone.layer4.0', penult='backbone.layer4'),
        connectors=dict(
            inter=dict(in_channels=512, num_templates=8000),
            penult=dict(in_channels=512, num_templates=4096),
        ),
        # where the teacher is read
        teacher_recorders=dict(
            inter=dict(source='backbone.layer4.0'),
            penult=dict(source='backbone.layer4'),
        ),
        # what it decides there: 1000 classes x 8 sub-classes = 8000 templates; 4096 centroids
        distill_losses=dict(
            loss_inter=dict(decision=dict(num_classes=1000, num_subclasses=8, num_components=60)),
            loss_penult=dict(decision=dict(num_centroids=4096, temperature=1.0)),
        ),
    ),
)
