# 100 epochs of SGD, as published (letKD, supplementary material).
_base_ = 'mmpretrain::_base_/schedules/imagenet_bs256.py'
optim_wrapper = dict(optimizer=dict(nesterov=True))
