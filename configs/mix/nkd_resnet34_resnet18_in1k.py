# Normalised KD (NKD, ICCV 2023), with the authors' weights.
_base_ = './nkd_resnet34_resnet18_in1k_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
