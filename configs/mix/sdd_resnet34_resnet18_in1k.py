# Scale-decoupled KD (SD-KD, CVPR 2024). beta is the authors'; scales, temperature and weights are
# chosen here: half labels and half KD.
_base_ = './sdd_resnet34_resnet18_in1k_kdlayer.py'

model = dict(distiller=dict(kd_layers=dict(_delete_=True)))
