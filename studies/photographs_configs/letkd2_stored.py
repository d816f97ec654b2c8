# letKD-2 with few templates, 24 epochs of each fourth training image: studies/stored_views.py.
_base_ = './letkd2.py'

train_dataloader = dict(dataset=dict(indices=list(range(0, 20000, 4))))
train_cfg = dict(max_epochs=24, val_interval=12)
default_hooks = dict(checkpoint=dict(interval=12))
model = dict(
    distiller=dict(kd_layers=dict(
        inter=dict(decision=dict(num_subclasses=2)),
        penult=dict(decision=dict(num_centroids=256)))))
