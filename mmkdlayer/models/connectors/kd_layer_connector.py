"""The KD layer: matches each position against templates and adds what the matches mean."""

from __future__ import annotations

import functools
import logging
from types import ModuleType

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdlayer.models.ops import check_implementation, check_map, check_sizes, require_triton
from mmkdlayer.precision import is_compiling
from mmkdlayer.registry import MODELS

from . import elementwise, memory_efficient
from .memory_efficient import MemoryEfficientMatch
from .unit_conv import UnitConv2d


def _has_hooks(module: nn.Module) -> bool:
    """Whether something is to happen when a module is called."""
    return any(
        (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )


@functools.cache
def _say_that_synchronised_norms_cost_memory(implementation: str) -> None:
    if implementation == 'reference':
        return
    print_log(
        'KDLayerConnector: its norm is a SyncBatchNorm, for which there is only the plain formula. It '
        'takes three to four times the memory of the memory-efficient one and gives the same numbers. '
        'Without sync_bn in the config, each process normalises by its own batch.',
        logger='current',
        level=logging.WARNING,
    )


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
        implementation: 'memory_efficient' stores no K-channel tensor but the scores for the backward
            pass; 'reference' is the plain formula. Both give the same numbers, but for a hook on the
            scores (or their ``retain_grad``): with 'memory_efficient' it sees the gradient from their
            losses, without the part that comes through ``bn``. In eval mode, without gradients, with
            SyncBN, with hooks on the children ``bn`` or ``semantics`` (as recorders have) and for small
            batches of small maps, the plain formula runs. 'triton' is 'memory_efficient' with Triton
            kernels for all but the products, on CUDA devices.
        init_cfg: Initialisation as in mmengine; None for the method's own.

    Raises:
        ConfigError: A size is not a positive integer, or the implementation is not known.
    """

    def __init__(
        self,
        in_channels: int,
        num_templates: int,
        alpha: float = 1.0,
        template_scale: float = 3.0,
        semantic_scale: float = 1.0,
        implementation: str = 'memory_efficient',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_sizes('KDLayerConnector', in_channels=in_channels, num_templates=num_templates)
        check_implementation('KDLayerConnector', implementation)
        self.implementation = implementation
        self.in_channels = in_channels
        self.num_templates = num_templates
        self.alpha = float(alpha)
        self.templates = UnitConv2d(in_channels, num_templates, template_scale)
        self.bn = nn.BatchNorm2d(num_templates)
        self.semantics = UnitConv2d(num_templates, in_channels, semantic_scale)

    def init_weights(self) -> None:
        """Draw the weights anew (unless they were already initialised or loaded).

        Raises:
            ConfigError: The implementation can't train here. mmengine calls this before a training, so
                one hears of it before anything long begins.
        """
        self._kernels('cuda' if torch.cuda.is_available() else 'cpu')
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
        check_map('KDLayerConnector', x, self.in_channels)
        values = (
            self._memory_efficient(x)
            if self._is_memory_efficient(x)
            else self._explain(self.templates(x))
        )
        return torch.add(x, values.to(x.dtype), alpha=self.alpha)

    @torch.compiler.disable  # it is in tiles already; not every torch can trace it
    def _memory_efficient(self, x: Tensor) -> Tensor:
        """The values by the memory-efficient implementation."""
        match = MemoryEfficientMatch(self.bn, self.semantics, self._kernels(x.device.type))
        scores = self.templates(x, by=match)
        return match.values() if scores is match.scores else self._explain(scores)

    def _kernels(self, device_type: str) -> ModuleType:
        """The element-wise parts, on a kind of device."""
        if self.implementation != 'triton':
            return elementwise
        require_triton('KDLayerConnector', device_type)
        from . import triton_kernels

        return triton_kernels

    def _explain(self, scores: Tensor) -> Tensor:
        """The values of scores by the plain formula."""
        # Scores are float32 or better; a model that was made half precision has half statistics.
        scores = scores.to(self.bn.weight.dtype)
        return self.semantics(F.relu(self.bn(scores), inplace=True))

    def _is_memory_efficient(self, x: Tensor) -> bool:
        """In training, with a plain norm and enough positions; never in a trace (export).

        Nor with hooks on the children that would not be called.
        """
        dtype = self.templates.weight.dtype
        if self.training and isinstance(self.bn, nn.SyncBatchNorm) and not is_compiling():
            _say_that_synchronised_norms_cost_memory(self.implementation)
        return (
            self.implementation != 'reference'
            and self.training
            and torch.is_grad_enabled()
            and not torch.jit.is_tracing()
            and type(self.bn) is nn.BatchNorm2d
            and type(self.semantics) is UnitConv2d
            and not any(map(_has_hooks, (self.bn, self.semantics)))
            and self.bn.affine
            and self.bn.momentum is not None
            and dtype in (torch.float32, torch.float64)
            and dtype == self.bn.weight.dtype == torch.promote_types(dtype, x.dtype)
            and x.numel() > x.size(1)
            and x.numel() // x.size(1) * self.num_templates >= memory_efficient.MIN_SCORES
        )

    def extra_repr(self) -> str:
        """The constant that is not a parameter."""
        return f'alpha={self.alpha}'
