# The teacher's classifier on the projected student (SimKD, CVPR 2022), as the authors train it.
_base_ = './simkd_resnet34_resnet18_in1k_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
