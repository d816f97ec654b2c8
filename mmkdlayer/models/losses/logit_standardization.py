"""Any loss on logits, of standardised logits."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS

from .logits import full_precision_logits

#: Added to the variance: logits that are all equal become zeros, and their gradient stays finite.
EPS = 1e-6


@MODELS.register_module()
class LogitStandardization(nn.Module):
    """Standardises both networks' logits, then calls a loss on them.

    ``z_k -> (z_k - mean_k z) / std_k z`` for each image, with the mean and the standard deviation over
    its C classes, of the student and of the teacher. The temperature tau that divides it, and the factor
    tau^2, are the loss's own. From Sun et al., *Logit Standardization in Knowledge Distillation*, CVPR
    2024, algorithm 1 and its Z-score function; as there, the standard deviation is that of all C numbers
    (the authors' code divides by C - 1: 0.5 % more with 100 classes).

    The authors' settings for CIFAR-100 are tau=2 (3 for some pairs), loss_weight=9, and weight 0.1 for
    cross entropy::

        dict(type='mmkdlayer.LogitStandardization',
             loss=dict(type='mmrazor.KLDivergence', tau=2, loss_weight=9))

    Their code has none for plain KD on ImageNet.

    Labels, soft ones too, are handed to the loss as they are. Half precision is computed in float32.
    Logits that are all equal become zeros, as does the logit of a single class.

    Args:
        loss: A loss, or its config, whose first two inputs are the student's and the teacher's logits,
            and whose third, if it needs one, are labels: mmrazor's KLDivergence, DKDLoss, DISTLoss,
            WSLD and KDSoftCELoss, or NKDLoss.

    Raises:
        ConfigError: The loss can't be built, or needs other inputs.
    """

    def __init__(self, loss: Mapping[str, Any] | nn.Module) -> None:
        super().__init__()
        try:
            self.loss = loss if isinstance(loss, nn.Module) else MODELS.build(dict(loss))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f'LogitStandardization: {loss} builds no loss ({error}).') from error
        inputs = [
            parameter
            for parameter in signature(self.loss.forward).parameters.values()
            if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
        ]
        required = [parameter.name for parameter in inputs if parameter.default is Parameter.empty]
        if len(inputs) < 2 or len(required) > 3:
            raise ConfigError(
                f'LogitStandardization: {type(self.loss).__name__} takes {", ".join(required)}, but '
                'expected is a loss of the logits of the student and the teacher, and maybe of labels.'
            )
        self.needs_labels = len(required) == 3

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            preds_S: Logits of the student, (N, C).
            preds_T: Logits of the teacher, (N, C).
            gt_labels: Labels, where the loss needs them.

        Returns:
            What the loss returns.

        Raises:
            ConfigError: The shapes differ, or labels are missing or not for this loss.
        """
        student, teacher = full_precision_logits(type(self).__name__, preds_S, preds_T)
        if (gt_labels is not None) != self.needs_labels:
            found = 'it has none' if self.needs_labels else 'it has'
            raise ConfigError(
                f'LogitStandardization: {type(self.loss).__name__} needs '
                f'{"" if self.needs_labels else "no "}gt_labels, which {found} in loss_forward_mappings.'
            )
        labels = () if gt_labels is None else (gt_labels,)
        return self.loss(standardize(student), standardize(teacher), *labels)


def standardize(logits: Tensor) -> Tensor:
    """Logits (N, C) with mean 0 and standard deviation 1 over the classes of each image."""
    return F.layer_norm(logits, logits.shape[1:], eps=EPS)
