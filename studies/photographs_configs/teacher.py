# ResNet-56, which teaches: on the images of the students, for longer, in larger batches.
_base_ = './_alone_.py'

model = _base_.teacher
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=0.2))
train_cfg = dict(max_epochs=24, val_interval=8)
