# Scale-decoupled KD (SD-KD, CVPR 2024), with letKD-2. All weights are the authors' without KD layers;
# that the layers' losses keep their weight of 1 is chosen here.
_base_ = ['../kdlayer/resnet32x4_resnet8x4_cifar100.py', './_base_/sdd.py']

model = dict(
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.1))),
    distiller=_base_.sdd)
