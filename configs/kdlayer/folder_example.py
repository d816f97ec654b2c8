# letKD-2 on any folder of classes: a small ResNet teaches a smaller one.
#
#   python -m mmkdlayer train configs/kdlayer/folder_example_teacher.py --data-root ROOT
#   python -m mmkdlayer train configs/kdlayer/folder_example.py --data-root ROOT \
#       --cfg-options model.teacher_ckpt=work_dirs/folder_example_teacher/epoch_20.pth
_base_ = [
    '../_base_/models/small_resnets.py', '../_base_/schedules/small_20e.py', '../_base_/runtime.py']
num_classes = len(_base_.classes)

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=_base_.small_student,
    teacher=_base_.small_teacher,
    teacher_ckpt=None,
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # after the first block of the last stage
            module='backbone.layer3.0', in_channels=32, teacher='backbone.layer3.0',
            decision=dict(
                type='mmkdlayer.SubclassDecision', num_classes=num_classes,
                num_components=8 if num_classes < 100 else 60)),
        penult=dict(  # after the last map before pooling
            module='backbone.layer3', in_channels=32, teacher='backbone.layer3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=256)))))
