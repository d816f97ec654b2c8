# Tokens of the first two blocks and the last (ViTKD, 2022), with the authors' weights.
_base_ = './vitkd_deit-base_deit-tiny_in1k_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
