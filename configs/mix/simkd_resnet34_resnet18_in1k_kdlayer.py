# The teacher's classifier on the projected student (SimKD, CVPR 2022), with letKD-2: the layers'
# losses, with their weight of 1, are added to the authors' only loss, which is chosen here.
_base_ = ['../kdlayer/resnet34_resnet18_in1k.py', './_base_/simkd.py']

model = dict(
    architecture=dict(
        neck=[
            dict(type='mmkdlayer.SimKDProjector', in_channels=512, out_channels=512),
            dict(type='mmpretrain.GlobalAveragePooling')],
        head=dict(
            loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.0),
            init_cfg=dict(
                type='Pretrained', checkpoint=_base_.model.teacher_ckpt, prefix='head.'))),
    distiller=_base_.simkd)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.frozen_head))
