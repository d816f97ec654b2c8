"""The KD layer: matches each position against templates and adds what the matches mean."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.precision import full_precision
from mmkdlayer.registry import MODELS

EPS = 1e-12


def inverse_norm(x: Tensor) -> Tensor:
    """One over the length of each position's vector, never above 1 / EPS.

    A position that is exactly zero has no direction: it gets 0, so that the normalised vector is zero
    (as with ``torch.nn.functional.normalize``) and its gradient is zero instead of 1e12, which would
    overflow in half precision.

    Args:
        x: Feature map, shape (N, C, H, W), any float dtype.

    Returns:
        Shape (N, 1, H, W), in float32 or better.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=dtype)
    return torch.where(norm > 0, norm.clamp_min(EPS).reciprocal(), torch.zeros_like(norm))


class UnitConv2d(nn.Module):
    """A 1x1 convolution between unit vectors, times one learned scale.

    ``out_k(i) = scale * <w_k / |w_k|, x_i / |x_i|>`` (letKD, section 3.1). The division by ``|x_i|``
    is done on the product: by linearity the result is the same, and no normalised copy of the input
    is kept.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        scale: First value of the learned scale.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float) -> None:
        super().__init__()
        self.first_scale = float(scale)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        self.scale = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernel from Normal(0, sqrt(2 / in_channels)) and reset the scale."""
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 / self.weight.size(1)))
        nn.init.constant_(self.scale, self.first_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, K, H, W); float32 or better whatever the dtype of ``x``."""
        # In full precision: the gradient of the product grows with 1 / |x|, beyond what half holds.
        with full_precision(x):
            x = x.to(torch.promote_types(x.dtype, self.weight.dtype))
            product = F.conv2d(x, F.normalize(self.weight, dim=1, eps=EPS))
            return product * (self.scale * inverse_norm(x))

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        out_channels, in_channels = self.weight.shape[:2]
        return f'{in_channels}, {out_channels}, scale={self.first_scale}'


@MODELS.register_module()
class KDLayerConnector(BaseModule):
    """A learnable knowledge distillation layer, part of the student in training and at inference.

    Per position i of a feature map x (letKD, BMVC 2023, section 3.1)::

        score_k(i) = s1 * <w_k / |w_k|, x_i / |x_i|>
        p(i)       = ReLU(BN(score(i)))
        v_c(i)     = s2 * <u_c / |u_c|, p(i) / |p(i)|>
        out(i)     = x_i + alpha * v(i)

    The raw scores are the output of the child ``templates``: record
    ``kd_layers.<name>.templates`` to supervise them.

    Args:
        in_channels: C, channels of the student's feature map.
        num_templates: K, how many templates a region may match. It equals the K of the decision that
            supervises the layer.
        alpha: Weight of what the layer adds. 0 supervises without feeding forward.
        template_scale: First value of the learned scale s1.
        semantic_scale: First value of the learned scale s2.
        init_cfg: Initialisation as in mmengine; None for the method's own.

    Raises:
        ConfigError: A size is not a positive integer.
    """

    def __init__(
        self,
        in_channels: int,
        num_templates: int,
        alpha: float = 1.0,
        template_scale: float = 3.0,
        semantic_scale: float = 1.0,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        for name, value in (('in_channels', in_channels), ('num_templates', num_templates)):
            if not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f'KDLayerConnector: {name} must be a positive integer, but got {value!r}.'
                )
        self.in_channels = in_channels
        self.num_templates = num_templates
        self.alpha = float(alpha)
        self.templates = UnitConv2d(in_channels, num_templates, template_scale)
        self.bn = nn.BatchNorm2d(num_templates)
        self.semantics = UnitConv2d(num_templates, in_channels, semantic_scale)

    def init_weights(self) -> None:
        """Draw the weights anew (unless they were already initialised or loaded)."""
        if not self.is_init:
            self.templates.reset_parameters()
            self.semantics.reset_parameters()
        super().init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Add what the matched templates mean to the feature map.

        Args:
            x: Student feature map, shape (N, C, H, W).

        Returns:
            Same shape and dtype as ``x``.

        Raises:
            ConfigError: ``x`` has another number of dimensions or channels.
        """
        if x.dim() != 4 or x.size(1) != self.in_channels:
            raise ConfigError(
                f'KDLayerConnector expects a feature map (N, C={self.in_channels}, H, W), but got '
                f'{tuple(x.shape)}. Set in_channels to the channels of the module that the layer is '
                'placed after.'
            )
        # Scores are float32 or better; a model that was made half precision has half statistics.
        scores = self.templates(x).to(self.bn.weight.dtype)
        assignment = F.relu(self.bn(scores), inplace=True)
        return x + self.alpha * self.semantics(assignment).to(x.dtype)

    def extra_repr(self) -> str:
        """The constant that is not a parameter."""
        return f'alpha={self.alpha}'
