"""Plain mmrazor distillation, without anything of this project but its compat part."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

pytest.importorskip('mmrazor', reason='mmrazor is not installed')


@pytest.mark.parametrize('package', ['mmpretrain', 'mmcls'])
def test_single_teacher_distill_trains_a_step(package: str) -> None:
    import mmrazor.engine
    import mmrazor.models  # noqa: F401
    from mmpretrain.structures import DataSample

    recorders = dict(fc=dict(type='ModuleOutputs', source='head.fc'))
    config = f'{package}::resnet/resnet18_8xb16_cifar10.py'
    model = MODELS.build(
        dict(
            type='mmrazor.SingleTeacherDistill',
            architecture=dict(cfg_path=config, pretrained=False),
            teacher=dict(cfg_path=config, pretrained=False),
            distiller=dict(
                type='ConfigurableDistiller',
                student_recorders=recorders,
                teacher_recorders=recorders,
                distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=2, loss_weight=5)),
                loss_forward_mappings=dict(
                    loss_kl=dict(
                        preds_S=dict(from_student=True, recorder='fc'),
                        preds_T=dict(from_student=False, recorder='fc'),
                    )
                ),
            ),
        )
    )
    before = [parameter.detach().clone() for parameter in model.student.parameters()]
    data = dict(
        inputs=[torch.full((3, 32, 32), 30 * i, dtype=torch.uint8) for i in range(4)],
        data_samples=[DataSample().set_gt_label(i) for i in range(4)],
    )
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    losses = model.train_step(data, optim_wrapper)
    assert losses['distill.loss_kl'] > 0 and torch.isfinite(losses['loss'])
    after = model.student.parameters()
    assert any(not torch.equal(old, new) for old, new in zip(before, after))
