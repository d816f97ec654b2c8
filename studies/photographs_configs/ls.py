# KD of standardised logits (CVPR 2024), with its authors' weights for CIFAR-100.
_base_ = './logits.py'

model = dict(
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.1))),
    distiller=dict(distill_losses=dict(
        loss_kd=dict(
            type='mmkdlayer.LogitStandardization',
            loss=dict(type='mmrazor.KLDivergence', tau=2, loss_weight=9)))))
