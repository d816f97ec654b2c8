# Knowledge review (ReviewKD, CVPR 2021), with letKD-2. Weight 5 and its warm-up of 20 epochs are the
# authors' without KD layers; that the layers' losses keep their weight of 1 is chosen here.
_base_ = ['../kdlayer/resnet32x4_resnet8x4_cifar100.py', './_base_/reviewkd.py']

model = dict(
    architecture=dict(backbone=dict(out_indices=(0, 1, 2))),
    teacher=dict(backbone=dict(out_indices=(0, 1, 2))),
    distiller=dict(
        _base_.reviewkd,
        connectors=dict(
            review=dict(
                type='mmkdlayer.ReviewKDConnector', student_channels=(64, 128, 256),
                teacher_channels=(64, 128, 256), mid_channels=256)),
        distill_losses=dict(loss_review=dict(type='mmkdlayer.ReviewKDLoss', loss_weight=5))))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmkdlayer.DistillLossScheduleHook', losses=dict(loss_review=[(0, 0), (20, 1)])),
]
