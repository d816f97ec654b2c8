# letKD-2 with few templates, tested on images to tune by: studies/photographs_tuning.py.
_base_ = './letkd2.py'

val_dataloader = dict(dataset=dict(data_prefix='tune'))
test_dataloader = dict(dataset=dict(data_prefix='tune'))
model = dict(
    distiller=dict(kd_layers=dict(
        inter=dict(decision=dict(num_subclasses=2)),
        penult=dict(decision=dict(num_centroids=256)))))
