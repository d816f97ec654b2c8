"""DKD (CVPR 2022) of a pair's logits, with its authors' temperature and weights for CIFAR-100."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmkdlayer.errors import ConfigError

#: What a distiller has besides its KD layers. The heads of mmpretrain's classifiers run as modules.
DKD: dict[str, dict] = dict(
    student_recorders=dict(
        logits=dict(type='mmrazor.ModuleOutputs', source='head'),
        labels=dict(type='mmrazor.ModuleInputs', source='head.loss_module'),
    ),
    teacher_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source='head')),
    distill_losses=dict(loss_dkd=dict(type='mmrazor.DKDLoss', tau=4, alpha=1, beta=2)),
    loss_forward_mappings=dict(
        loss_dkd=dict(
            preds_S=dict(recorder='logits', from_student=True),
            preds_T=dict(recorder='logits', from_student=False),
            gt_labels=dict(recorder='labels', from_student=True, data_idx=1),
        )
    ),
)


def check_dkd(distiller: Any, num_classes: int) -> None:
    """Look at what DKD gets, after a step of the student and a pass of the teacher were recorded.

    Raises:
        ConfigError: It is not the logits of a batch, or no class indices.
    """
    found: dict[str, Any] = {}
    for name, source in DKD['loss_forward_mappings']['loss_dkd'].items():
        try:
            found[name] = distiller.get_record(**source)
        except (AssertionError, IndexError, KeyError):
            found[name] = None
    for name, who in (('preds_S', 'student'), ('preds_T', 'teacher')):
        logits = found[name]
        if not isinstance(logits, Tensor) or tuple(logits.shape[1:]) != (num_classes,):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f'--dkd and --dkd-out compare the logits (N, {num_classes}) of both '
                f"networks, but the {who}'s `head` gives {got}. Nothing was "
                f'written. Leave them out, or choose another {who}.'
            )
    labels = found['gt_labels']
    if not isinstance(labels, Tensor) or labels.dim() != 1 or labels.is_floating_point():
        raise ConfigError(
            "--dkd and --dkd-out need class indices (N,), but the student's `head.loss_module` gets "
            'none as its second argument. Nothing was written. Leave them out, or choose another '
            'student.'
        )
