# Knowledge review (ReviewKD, CVPR 2021), with the authors' weight.
_base_ = './reviewkd_resnet34_resnet18_in1k_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
