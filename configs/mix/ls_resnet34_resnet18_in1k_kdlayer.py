# KD of standardised logits (LS, CVPR 2024), with letKD-2. The authors publish no weights of plain KD on
# ImageNet: chosen here are theirs for CIFAR-100, and the layers' losses keep their weight of 1.
_base_ = ['../kdlayer/resnet34_resnet18_in1k.py', './_base_/ls.py']

model = dict(
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.1))),
    distiller=_base_.ls)
