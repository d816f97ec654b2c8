# Weighted transformed teacher matching (WTTM, ICLR 2024), with letKD-2. gamma and weight are chosen
# here, as are the weights of 1 of the layers' losses.
_base_ = ['../kdlayer/resnet34_resnet18_in1k.py', './_base_/wttm.py']

model = dict(
    distiller=dict(
        _base_.wttm,
        distill_losses=dict(loss_wttm=dict(type='mmkdlayer.WTTMLoss', gamma=0.5, loss_weight=1))))
