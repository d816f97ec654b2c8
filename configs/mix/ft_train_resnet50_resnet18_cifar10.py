# Factor transfer, second phase, as mmrazor ships it.
_base_ = [
    'mmrazor::distill/mmcls/factor_transfer/'
    'factor-transfer_backbone_resnet50_resnet18_8xb16_cifar10_train.py'
]

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

# Downloaded once, as teacher_ckpt, and not when the model is built too.
model = dict(teacher=dict(pretrained=False))
