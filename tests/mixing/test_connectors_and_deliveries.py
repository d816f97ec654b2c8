"""mmrazor's connectors on features before and after a KD layer; its deliveries beside KD layers."""

from __future__ import annotations

import copy
import inspect

import mixing_cases as cases
import pytest
import torch

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

CONNECTORS = {
    'BYOTConnector': dict(
        in_channel=16, out_channel=32, num_classes=3, expansion=1, stride=2, pool_size=2
    ),
    'CRDConnector': dict(dim_in=16 * 4 * 4, dim_out=8),
    'ConvModuleConnector': dict(in_channel=16, out_channel=24, norm_cfg=dict(type='BN')),
    'FBKDStudentConnector': dict(in_channels=16),
    'FBKDTeacherConnector': dict(in_channels=16),
    'MGDConnector': dict(student_channels=16, teacher_channels=24),
    'NormConnector': dict(in_channels=16, norm_cfg=dict(type='BN')),
    'OFDTeacherConnector': dict(),
    'Paraphraser': dict(in_channel=16, out_channel=8, phase='pretrain'),
    'TorchFunctionalConnector': dict(function_name='avg_pool2d', func_args=dict(kernel_size=2)),
    'TorchNNConnector': dict(module_name='MaxPool2d', module_args=dict(kernel_size=2)),
    'Translator': dict(in_channel=16, out_channel=8),
}
PLACES = {
    'before': (dict(type='ModuleInputs', source='kd_layers.penult'), dict(data_idx=0)),
    'after': (dict(type='ModuleOutputs', source='backbone.layer3'), {}),
    'layer': (dict(type='ModuleOutputs', source='kd_layers.penult'), {}),
    'inside': (dict(type='ModuleOutputs', source='backbone.layer3.1'), {}),
}


def test_every_registered_connector_is_tried() -> None:
    import mmrazor.models.architectures.connectors  # noqa: F401
    from mmrazor.registry import MODELS

    package = 'mmrazor.models.architectures.connectors'
    found = {
        name
        for name, entry in MODELS.module_dict.items()
        if inspect.isclass(entry) and entry.__module__.startswith(package)
    }
    assert found == set(CONNECTORS)


def flat(output: object) -> list[torch.Tensor]:
    return list(output) if isinstance(output, tuple) else [output]


@pytest.mark.parametrize('stock', [False, True])
@pytest.mark.parametrize('place', PLACES)
def test_connectors(
    distillation_config, stock_config, make_distillation, make_batch, place: str, stock: bool
) -> None:
    config = stock_config() if stock else distillation_config()
    recorder, index = PLACES[place]
    distiller = config['distiller']
    distiller.setdefault('student_recorders', {})['map'] = dict(recorder)
    model, batch = make_distillation(config), make_batch()
    # Not from the config, where a connector that no loss uses is refused.
    connectors = model.distiller.build_connectors(
        {name: dict(type=f'mmrazor.{name}', **args) for name, args in CONNECTORS.items()}
    )
    model.distiller.connectors.update(connectors)
    connectors['OFDTeacherConnector'].init_margin(torch.full((1, 16, 1, 1), 0.1))
    seen = {}
    layer = model.student.kd_layers['penult']
    layer.register_forward_hook(lambda m, args, out: seen.update(before=args[0], after=out))
    model.distiller.release_records = lambda: None
    model(*batch, mode='loss')
    # layer3.1, the last block of layer3, ends where the KD layer of layer3 begins.
    expected = seen['before' if place in ('before', 'inside') else 'after']
    for name in CONNECTORS:
        twin = copy.deepcopy(connectors[name])
        torch.manual_seed(3)
        found = model.distiller.get_record('map', from_student=True, connector=name, **index)
        torch.manual_seed(3)
        for ours, theirs in zip(flat(found), flat(twin(expected))):
            torch.testing.assert_close(ours, theirs, msg=name)


@pytest.mark.parametrize('stock', [False, True])
@pytest.mark.parametrize(
    'delivery',
    [
        dict(type='MethodOutputs', method_path='mmpretrain.models.heads.LinearClsHead.pre_logits'),
        dict(type='FunctionOutputs', func_path='mixing_cases.to_be_delivered'),
    ],
)
def test_deliveries(
    distillation_config, stock_config, make_distillation, make_batch, stock: bool, delivery: dict
) -> None:
    """What the teacher computes replaces what the student would, after its KD layers have run."""
    config = stock_config(teacher_channels=4) if stock else distillation_config(teacher_channels=4)
    config['distiller']['distill_deliveries'] = dict(it=dict(delivery, max_keep_data=1))
    model, batch = make_distillation(config), make_batch()
    without = make_distillation(
        stock_config(teacher_channels=4) if stock else distillation_config(teacher_channels=4)
    )
    without.load_state_dict(model.state_dict(), strict=False)
    without.teacher.load_state_dict(model.teacher.state_dict())
    for network in (model, without):
        for part in (network.student, network.teacher):
            part.neck.gap.register_forward_hook(lambda m, a, out: cases.to_be_delivered(out))
    inputs = {}
    for name, network in (('student', model.student), ('teacher', model.teacher)):
        network.head.fc.register_forward_hook(
            lambda m, args, out, name=name: inputs.update({name: args[0]})
        )
    losses, expected = model(*batch, mode='loss'), without(*batch, mode='loss')
    assert torch.equal(inputs['student'], inputs['teacher'])
    for name in ('distill.loss_inter', 'distill.loss_penult'):
        torch.testing.assert_close(losses[name], expected[name])
    assert not torch.allclose(losses['student.loss'], expected['student.loss'])
