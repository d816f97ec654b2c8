# letKD-2 for a ResNet-18 on CIFAR-10: `letkd` goes into the distiller of a recipe with one teacher,
# `losses` into one whose student brings its KD layers (KDLayerClassifier).
_base_ = './letkd2_in1k.py'

letkd = dict(
    connectors=dict(inter=dict(num_templates=80)),
    distill_losses=dict(loss_inter=dict(decision=dict(num_classes=10, num_components=8))),
)
losses = dict(
    student_recorders=_base_.letkd.student_recorders,
    distill_losses=dict(
        loss_inter=dict(
            type='mmkdlayer.TeacherDecisionLoss',
            decision=dict(
                type='mmkdlayer.SubclassDecision',
                num_classes=10,
                num_subclasses=8,
                num_components=8,
            ),
        ),
        loss_penult=_base_.letkd.distill_losses.loss_penult,
    ),
    loss_forward_mappings=_base_.letkd.loss_forward_mappings,
)
