"""Torch's own initialisation, for the networks that the literature leaves as torch draws them."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class TorchInit(BaseModule):
    """Mixin for a backbone: draws its weights as torch does, unless ``init_cfg`` says otherwise.

    mmpretrain's ShuffleNets draw from narrow normal distributions instead, and mmcv's ConvModule,
    which draws its own weights anew, would overrule an ``init_cfg`` that describes torch's.
    """

    def init_weights(self) -> None:
        """Draw the weights, or load them where ``init_cfg`` names a checkpoint."""
        if self.init_cfg:
            BaseModule.init_weights(self)
            return
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, _BatchNorm)):
                module.reset_parameters()
        self.is_init = True
