# 240 epochs for CIFAR-100 and Tiny-ImageNet, as published (letKD, supplementary material).
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
train_cfg = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=240, val_interval=1)
auto_scale_lr = dict(base_batch_size=64)
