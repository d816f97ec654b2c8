# Weighted transformed teacher matching (WTTM, ICLR 2024). gamma and weight are chosen here.
_base_ = './wttm_resnet34_resnet18_in1k_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
