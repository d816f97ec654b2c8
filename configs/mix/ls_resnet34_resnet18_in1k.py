# KD of standardised logits (LS, CVPR 2024), with the authors' weights for CIFAR-100.
_base_ = './ls_resnet34_resnet18_in1k_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
