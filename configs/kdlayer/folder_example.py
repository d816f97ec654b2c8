# letKD-2 on any folder of classes: a small ResNet teaches a smaller one.
#
#   python tools/train.py configs/kdlayer/folder_example_teacher.py --data-root ROOT
#   python tools/train.py configs/kdlayer/folder_example.py --data-root ROOT \
#       --cfg-options model.teacher_ckpt=work_dirs/folder_example_teacher/epoch_20.pth
_base_ = [
    '../_base_/models/small_resnets.py',
    '../_base_/letkd2.py',
    '../_base_/datasets/folder.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/runtime.py',
]
num_classes = len(_base_.classes)
num_subclasses = 8
num_centroids = 256

model = dict(
    architecture=dict(
        _base_.small_student, head=dict(_base_.small_student.head, num_classes=num_classes)
    ),
    teacher=dict(
        _base_.small_teacher, head=dict(_base_.small_teacher.head, num_classes=num_classes)
    ),
    teacher_ckpt=None,
    distiller=dict(
        # where the student gets its KD layers
        kd_layers=dict(inter='backbone.layer3.0', penult='backbone.layer3'),
        connectors=dict(
            inter=dict(in_channels=32, num_templates=num_classes * num_subclasses),
            penult=dict(in_channels=32, num_templates=num_centroids),
        ),
        # where the teacher is read
        teacher_recorders=dict(
            inter=dict(source='backbone.layer3.0'),
            penult=dict(source='backbone.layer3'),
        ),
        # what it decides there
        distill_losses=dict(
            loss_inter=dict(
                decision=dict(
                    num_classes=num_classes,
                    num_subclasses=num_subclasses,
                    num_components=8 if num_classes < 100 else 60,
                )
            ),
            loss_penult=dict(decision=dict(num_centroids=num_centroids, temperature=1.0)),
        ),
    ),
)
