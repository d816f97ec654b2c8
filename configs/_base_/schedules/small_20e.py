# 20 epochs for small images and small networks.
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4))
# Down to 0 at the end of the last epoch, train_cfg.max_epochs.
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=20, val_interval=1)
auto_scale_lr = dict(base_batch_size=64)
