# Scale-decoupled KD (SD-KD, CVPR 2024), with the authors' weights.
_base_ = './sdd_resnet32x4_resnet8x4_cifar100_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
