# letKD-2 between transformers, on any folder of classes: a small ViT teaches a smaller one.
#
#   python -m mmkdlayer train configs/kdlayer/folder_example_vit.py --data-root ROOT \
#       --cfg-options model.teacher_ckpt=TEACHER_CHECKPOINT
#
# Patches of 4x4 pixels are the positions; the class token passes unchanged. The heads read the class
# token, so "penult" is before the last block: after it, patch tokens do not reach the logits.
_base_ = [
    '../_base_/datasets/folder.py', '../_base_/schedules/small_20e.py', '../_base_/runtime.py']
num_classes = len(_base_.classes)


def _vit(layers, channels):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.VisionTransformer', img_size=_base_.image_size, patch_size=4,
            arch=dict(
                embed_dims=channels, num_layers=layers, num_heads=channels // 16,
                feedforward_channels=4 * channels)),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead', num_classes=num_classes,
            in_channels=channels))


optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05))

model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=_vit(4, 48),
    teacher=_vit(6, 96),
    teacher_ckpt=None,
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(
            module='backbone.layers.1', in_channels=48, teacher='backbone.layers.3',
            decision=dict(
                type='mmkdlayer.SubclassDecision', num_classes=num_classes,
                num_components=8 if num_classes < 100 else 60)),
        penult=dict(
            module='backbone.layers.2', in_channels=48, teacher='backbone.layers.4',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=256)))))
