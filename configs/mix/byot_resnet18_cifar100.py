# Be your own teacher (self-distillation), as mmrazor ships it, with three repairs for mmpretrain: the names
# of its data preprocessor and of its last transform, and the test set (without `split` it is the training set).
_base_ = 'mmrazor::distill/mmcls/byot/byot_resnet18_8xb16_cifar100.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

model = dict(architecture=dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor')))
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_pipeline[:-1], dict(type='PackInputs')])
)
val_dataloader = dict(dataset=dict(split='test', pipeline=[dict(type='PackInputs')]))
test_dataloader = val_dataloader
