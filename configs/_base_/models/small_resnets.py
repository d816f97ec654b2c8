# Two small networks for the classes of a folder, of mmpretrain's ResNet_CIFAR with three stages:
# the teacher has 3-4-6 blocks of 16-32-64 channels (0.51 M parameters), the student 2-2-2 blocks of
# 8-16-32 channels (0.04 M).
_base_ = '../datasets/folder.py'


def _small_resnet(depth, channels):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.ResNet_CIFAR', depth=depth,
            num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,),
            stem_channels=channels, base_channels=channels),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=len(_base_.classes), in_channels=4 * channels))


small_teacher = _small_resnet(34, 16)
small_student = _small_resnet(18, 8)
