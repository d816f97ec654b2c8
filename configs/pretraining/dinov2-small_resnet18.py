# Pre-trains a ResNet-18 on images without labels: DINOv2 decides at both places; no other loss.
#
#   python -m mmkdlayer train configs/pretraining/dinov2-small_resnet18.py --data-root IMAGES
#
# The teacher needs timm (pip install "mmkdlayer[teachers]"). weights=True downloads it; without a
# network, fetch the file before and give --cfg-options model.teacher.weights=FILE.
_base_ = ['../_base_/datasets/unlabelled.py', '../_base_/runtime.py']

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ResNet', depth=18)),  # no head: nothing needs labels
    teacher=dict(
        type='mmkdlayer.TeacherModule',
        source='timm:vit_small_patch14_dinov2.lvd142m',
        weights=True,
        input_size=224),  # 16x16 patches; it was made for 518, which costs 5 times as much
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(  # after the first block of the last stage
            module='backbone.layer4.0', in_channels=512, teacher='model.blocks.8',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=1024)),
        penult=dict(  # after the last map before pooling
            module='backbone.layer4', in_channels=512, teacher='model.norm',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=5, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=100)
auto_scale_lr = dict(base_batch_size=256)

# No labels, nothing to validate or test with.
val_cfg = None
test_cfg = None
default_hooks = dict(checkpoint=dict(save_best=None))
