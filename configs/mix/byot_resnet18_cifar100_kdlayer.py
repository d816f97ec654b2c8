# Be your own teacher, with the two KD layers of letKD-2. There is no other network that could decide for
# them, so they learn from the recipe's own losses alone.
_base_ = './byot_resnet18_cifar100.py'

model = dict(
    architecture=dict(
        type='mmkdlayer.KDLayerClassifier',
        kd_layers=dict(
            inter=dict(module='backbone.layer4.0', in_channels=512, num_templates=800),
            penult=dict(module='backbone.layer4', in_channels=512, num_templates=4096))))
custom_hooks = [
    dict(type='mmkdlayer.ReleaseRecordsHook'),
    dict(type='mmkdlayer.CheckDataHook'),
    dict(type='mmkdlayer.CheckFiniteHook'),
    dict(type='mmkdlayer.PreemptionHook'),
]
