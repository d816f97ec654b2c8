# Normalised KD (NKD, ICCV 2023), with the authors' weights for ResNet-34 -> ResNet-18 on CIFAR-100.
_base_ = './nkd_resnet32x4_resnet8x4_cifar100_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
