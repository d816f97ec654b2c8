# 100 epochs of ImageNet for convolutional students, at 256 images.
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=100, val_interval=1)
