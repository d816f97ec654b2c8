# letKD-2: the teacher, and the same student with two KD layers.
_base_ = './_base_.py'

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # after the first block of the last stage: 10 x 4 sub-classes
            module='backbone.layer3.0', in_channels=16, teacher='backbone.layer3.0',
            decision=dict(
                type='mmkdlayer.SubclassDecision', num_classes=10,
                num_subclasses=4, num_components=8)),
        penult=dict(  # after the last map before pooling
            module='backbone.layer3', in_channels=16, teacher='backbone.layer3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=64)))))
