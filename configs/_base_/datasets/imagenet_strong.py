# mmpretrain's ImageNet with the augmentation of DeiT and Swin, Mixup and CutMix: 8 processes of 128
# images, 1024 in all.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    batch_augments=dict(augments=[
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0)]))
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=1024)
