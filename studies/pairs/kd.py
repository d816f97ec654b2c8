# A pair by KD of the logits (Hinton et al., 2015) in the place of KD layers, with the weights and the
# temperature that the literature's tables use: 0.1 x labels + 0.9 x KD at temperature 4. The variable
# names the pair: --cfg-options pair=resnet56_resnet20_cifar100
_base_ = []  # says to mmengine that this is a plain config, in which imports are allowed
import mmengine  # noqa: E402

from mmkdlayer.config_variables import config_variable  # noqa: E402

pair = config_variable('pair', 'resnet56_resnet20_cifar100')
globals().update(
    mmengine.Config.fromfile(f'{{ fileDirname }}/../../configs/kdlayer/{pair}.py').to_dict())
model['architecture']['head']['loss'] = dict(
    type='mmpretrain.CrossEntropyLoss', loss_weight=0.1)
model['distiller'] = dict(
    type='mmrazor.ConfigurableDistiller',
    student_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source='head.fc')),
    teacher_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source='head.fc')),
    distill_losses=dict(loss_kd=dict(type='mmrazor.KLDivergence', tau=4, loss_weight=0.9)),
    loss_forward_mappings=dict(
        loss_kd=dict(
            preds_S=dict(recorder='logits', from_student=True),
            preds_T=dict(recorder='logits', from_student=False))))
