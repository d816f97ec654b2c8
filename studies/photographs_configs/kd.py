# KD (Hinton et al., 2015), with the weights that CIFAR-100's tables use: 0.1 x labels + 0.9 x KD,
# temperature 4.
_base_ = './logits.py'

model = dict(
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.1))),
    distiller=dict(distill_losses=dict(
        loss_kd=dict(type='mmrazor.KLDivergence', tau=4, loss_weight=0.9))))
