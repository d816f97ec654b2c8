# Scale-decoupled KD (SD-KD, CVPR 2024), with letKD-2. beta is the authors'; scales, temperature and
# weights are chosen here: half labels and half KD.
_base_ = ['../kdlayer/resnet34_resnet18_in1k.py', './_base_/sdd.py']

model = dict(
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.5))),
    distiller=dict(
        _base_.sdd,
        distill_losses=dict(
            loss_sdd=dict(
                type='mmkdlayer.SDDLoss', tau=1, scales=(1, 2), beta=2, loss_weight=0.5))))
