"""Projector before a reused classifier of the teacher (SimKD)."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdlayer.registry import MODELS


@MODELS.register_module()
class SimKDProjector(BaseModule):
    """Maps the student's last map to the teacher's channels: a neck, before global average pooling.

    Three convolutions, 1x1, 3x3 and 1x1, each with BN and ReLU, with ``out_channels / factor`` channels
    between them. From Chen et al., *Knowledge Distillation with the Reused Teacher Classifier*, CVPR
    2022, section 3.2; factor=2 as there.

    Its loss is the mean squared error between what its ``layers`` return and the teacher's last map:
    ``dict(type='mmrazor.L2Loss', normalize=False, div_element=True)``, with weight 1 and nothing else.
    The student's head has the teacher's weights and is not trained; the projector stays in the student.
    ``configs/mix/simkd_*.py`` show how both are said. The maps must be of the same size.

    Args:
        in_channels: Channels of the student's last map.
        out_channels: Channels of the teacher's.
        factor: Of how many fewer channels there are in between.
        init_cfg: Initialisation as in mmengine.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: int = 2,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        mid = out_channels // factor
        self.layers = nn.Sequential(
            *_block(in_channels, mid, 1), *_block(mid, mid, 3), *_block(mid, out_channels, 1)
        )

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Map the last of a backbone's maps, (N, C, H, W), to one (N, out_channels, H, W)."""
        return (self.layers(features[-1]),)


def _block(in_channels: int, out_channels: int, size: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
