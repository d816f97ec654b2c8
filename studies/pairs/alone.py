# The student of a pair on its own, by the pair's recipe; the variable names the pair:
# --cfg-options pair=resnet56_resnet20_cifar100
_base_ = []  # says to mmengine that this is a plain config, in which imports are allowed
import mmengine  # noqa: E402

from mmkdlayer.config_variables import config_variable  # noqa: E402

pair = config_variable('pair', 'resnet56_resnet20_cifar100')
globals().update(
    mmengine.Config.fromfile(f'{{ fileDirname }}/../../configs/kdlayer/{pair}.py').to_dict())
model = dict(model['architecture'])
custom_hooks = [
    dict(type='mmkdlayer.CheckDataHook'),
    dict(type='mmkdlayer.CheckFiniteHook'),
    dict(type='mmkdlayer.PreemptionHook'),
]
