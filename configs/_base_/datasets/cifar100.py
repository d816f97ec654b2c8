# mmpretrain's CIFAR-100, one process of 64 images.
_base_ = 'mmpretrain::_base_/datasets/cifar100_bs16.py'
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
train_dataloader = dict(batch_size=64, persistent_workers=True)
val_dataloader = dict(batch_size=64, persistent_workers=True)
val_evaluator = dict(topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
