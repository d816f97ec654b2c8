# Knowledge review (ReviewKD, CVPR 2021), with the authors' weight and warm-up.
_base_ = './reviewkd_resnet32x4_resnet8x4_cifar100_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
