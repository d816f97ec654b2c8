# Knowledge review (ReviewKD, CVPR 2021), with letKD-2. Weight 1 is the authors' without KD layers;
# that the layers' losses keep their weight of 1 is chosen here.
_base_ = ['../kdlayer/resnet34_resnet18_in1k.py', './_base_/reviewkd.py']

model = dict(
    architecture=dict(backbone=dict(out_indices=(0, 1, 2, 3))),
    teacher=dict(backbone=dict(out_indices=(0, 1, 2, 3))),
    distiller=dict(
        _base_.reviewkd,
        connectors=dict(
            review=dict(
                type='mmkdlayer.ReviewKDConnector', student_channels=(64, 128, 256, 512),
                teacher_channels=(64, 128, 256, 512), mid_channels=512))))
