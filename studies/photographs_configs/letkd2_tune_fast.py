# letkd2_tune.py with 1024 centroids, whose templates learn four times as fast.
_base_ = './letkd2_tune.py'

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'kd_layers.penult.templates.weight': dict(lr_mult=4)}))
model = dict(
    distiller=dict(kd_layers=dict(penult=dict(decision=dict(num_centroids=1024)))))
