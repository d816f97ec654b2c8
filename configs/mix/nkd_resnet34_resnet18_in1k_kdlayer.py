# Normalised KD (NKD, ICCV 2023), with letKD-2. The weights are the authors' for this pair without KD
# layers; that the layers' losses keep their weight of 1 is chosen here.
_base_ = ['../kdlayer/resnet34_resnet18_in1k.py', './_base_/nkd.py']

model = dict(distiller=_base_.nkd)
