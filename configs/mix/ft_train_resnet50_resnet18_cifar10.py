# Factor transfer, second phase, as mmrazor ships it, with one repair: images were
# normalised as those of ImageNet, which a teacher of CIFAR-10 has never seen.
_base_ = [
    'mmrazor::distill/mmcls/factor_transfer/'
    'factor-transfer_backbone_resnet50_resnet18_8xb16_cifar10_train.py'
]

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], bgr_to_rgb=False),
    # Downloaded once, as teacher_ckpt, and not when the model is built too.
    teacher=dict(pretrained=False),
)
