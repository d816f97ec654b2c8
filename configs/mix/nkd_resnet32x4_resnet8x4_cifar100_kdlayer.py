# Normalised KD (NKD, ICCV 2023), with letKD-2. gamma and tau are the authors' for ResNet-34 ->
# ResNet-18 on CIFAR-100; that they stay for this pair, and the layers' losses keep their weight of 1,
# is chosen here.
_base_ = ['../kdlayer/resnet32x4_resnet8x4_cifar100.py', './_base_/nkd.py']

model = dict(
    distiller=dict(
        _base_.nkd,
        distill_losses=dict(loss_nkd=dict(type='mmkdlayer.NKDLoss', gamma=3.5, tau=3))))
