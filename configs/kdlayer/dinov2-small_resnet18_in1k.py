# letKD-2 on ImageNet: DINOv2's ViT-S/14 teaches ResNet-18; the teacher has no classifier, and its
# decisions need no labels. No published figure belongs to this pair.
_base_ = [
    '../_base_/datasets/imagenet_bs256.py', '../_base_/schedules/sgd_100e.py', '../_base_/runtime.py']

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ResNet', depth=18),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=512)),
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.VisionTransformer', arch='dinov2-small', img_size=518, patch_size=14,
            layer_scale_init_value=1e-5),
        head=None),
    teacher_ckpt='https://download.openmmlab.com/mmpretrain/v1.0/dinov2/'
    'vit-small-p14_dinov2-pre_3rdparty_20230426-5641ca5a.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # after the first block of the last stage
            module='backbone.layer4.0', in_channels=512, teacher='backbone.layers.8',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=8000)),
        penult=dict(  # after the last map before pooling
            module='backbone.layer4', in_channels=512, teacher='backbone.ln1',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
