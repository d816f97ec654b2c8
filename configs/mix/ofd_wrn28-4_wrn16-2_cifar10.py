# Overhaul of feature distillation, as mmrazor ships it.
_base_ = 'mmrazor::distill/mmcls/ofd/ofd_backbone_resnet50_resnet18_8xb16_cifar10.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)
