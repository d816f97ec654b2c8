# Be your own teacher (self-distillation), as mmrazor ships it, with repairs for mmpretrain: the names of
# its data preprocessor, data set and transforms, and the test set (without `split`, mmpretrain validates
# on the training set).
_base_ = 'mmrazor::distill/mmcls/byot/byot_resnet18_8xb16_cifar100.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

model = dict(architecture=dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor')))
train_dataloader = dict(
    dataset=dict(
        _scope_='mmpretrain',
        pipeline=[
            *[dict(step, _scope_='mmpretrain') for step in _base_.train_pipeline[:-1]],
            dict(type='PackInputs'),
        ],
    )
)
val_dataloader = dict(
    dataset=dict(_scope_='mmpretrain', split='test', pipeline=[dict(type='PackInputs')])
)
val_evaluator = dict(_scope_='mmpretrain')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
