# Contrastive representation distillation, as mmrazor ships it, with three repairs: the teacher's file
# had no address; images were normalised as those of ImageNet, which a teacher of CIFAR-10 has never
# seen; and without `split` mmpretrain validates on the training set.
_base_ = 'mmrazor::distill/mmcls/crd/crd_neck_r50_r18_8xb16_cifar10.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], bgr_to_rgb=False),
    teacher=dict(pretrained=False),
    teacher_ckpt='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_b16x8_cifar10_20210528-f54bfad9.pth',
)
val_dataloader = dict(dataset=dict(dataset=dict(split='test')))
test_dataloader = val_dataloader
