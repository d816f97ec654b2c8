# mmpretrain's ImageNet: 8 processes of 32 images, 256 in all.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
auto_scale_lr = dict(base_batch_size=256)
