# letKD-2 on ImageNet: DeiT-B teaches DeiT-Ti. No published figure belongs to this pair.
# The heads read the class token: "penult" is before the last block, after which patch tokens do not
# reach the logits.
_base_ = [
    '../_base_/datasets/imagenet_strong.py', '../_base_/schedules/adamw_300e.py',
    '../_base_/runtime.py']

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.VisionTransformer', arch='deit-tiny'),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead', num_classes=1000, in_channels=192,
            loss=dict(
                type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'))),
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.VisionTransformer', arch='deit-base'),
        head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=1000, in_channels=768)),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/deit/'
    'deit-base_pt-16xb64_in1k_20220216-db63c16c.pth',
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # at three quarters of the depth: 1000 x 8 sub-classes
            module='backbone.layers.8', in_channels=192, teacher='backbone.layers.8',
            decision=dict(
                type='mmkdlayer.SubclassDecision', num_classes=1000, mixed_classes=2)),
        penult=dict(
            module='backbone.layers.10', in_channels=192, teacher='backbone.layers.10',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
