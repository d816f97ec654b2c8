# Activation boundaries, second phase, as mmrazor ships it.
_base_ = 'mmrazor::distill/mmcls/abloss/abloss_logits_resnet50_resnet18_8xb32_in1k.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

# Set model.init_cfg.checkpoint to the checkpoint of the first phase. The teacher comes from the model
# zoo, because a checkpoint of KDLayerDistiller does not hold it.
model = dict(
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth'
)
