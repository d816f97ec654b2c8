# letKD-2: the teacher, and the same student with two KD layers.
_base_ = ['./_base_.py', '../_base_/letkd2.py']

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    distiller=dict(
        # where the student gets its KD layers
        kd_layers=dict(inter='backbone.layer3.0', penult='backbone.layer3'),
        connectors=dict(
            inter=dict(in_channels=16, num_templates=40),
            penult=dict(in_channels=16, num_templates=64),
        ),
        # where the teacher is read
        teacher_recorders=dict(
            inter=dict(source='backbone.layer3.0'),
            penult=dict(source='backbone.layer3'),
        ),
        # what it decides there: 10 classes x 4 sub-classes = 40 templates; 64 centroids
        distill_losses=dict(
            loss_inter=dict(decision=dict(num_classes=10, num_subclasses=4, num_components=8)),
            loss_penult=dict(decision=dict(num_centroids=64, temperature=1.0)),
        ),
    ),
)
