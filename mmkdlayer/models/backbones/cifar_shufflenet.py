"""What the ShuffleNets for small images have in common."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class CifarShuffleNet(BaseModule):
    """Mixin for mmpretrain's ShuffleNets: a 1x1 stem of stride 1, no max pooling, torch's weights.

    The literature leaves these networks as torch draws them, and so does this unless ``init_cfg``
    says otherwise. mmpretrain's ShuffleNets draw from narrow normal distributions instead, and
    mmcv's ConvModule, which draws its own weights anew, would overrule an ``init_cfg`` that
    describes torch's.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv1: nn.Module = ConvModule(3, self.conv1.out_channels, 1, **self._cfgs())
        self.maxpool = nn.Identity()

    def init_weights(self) -> None:
        """Draw the weights, or load them where ``init_cfg`` names a checkpoint."""
        if self.init_cfg:
            BaseModule.init_weights(self)
            return
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, _BatchNorm)):
                module.reset_parameters()
        self.is_init = True

    def _cfgs(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ('conv_cfg', 'norm_cfg', 'act_cfg')}
