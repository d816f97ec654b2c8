"""ShuffleNetV2 for small images."""

from __future__ import annotations

from mmpretrain.models.backbones import ShuffleNetV2

from mmkdlayer.registry import MODELS

from .cifar_shufflenet import CifarShuffleNet


@MODELS.register_module()
class CifarShuffleNetV2(CifarShuffleNet, ShuffleNetV2):
    """ShuffleNetV2 for small images: mmpretrain's units after a 1x1 stem, without max pooling.

    Ma et al., "ShuffleNet V2", ECCV 2018, in the variant of the distillation literature. KD layers
    go after ``layers.2.0`` (inter) and ``layers.3`` (penult: the last 1x1 convolution, BN and
    ReLU).

    Args:
        **kwargs: ``widen_factor`` (0.5, 1.0, 1.5 or 2.0), ``out_indices``, ``frozen_stages``,
            ``norm_cfg``, ``norm_eval``, ``with_cp``, ``init_cfg``, ... of mmpretrain's
            ShuffleNetV2. Without ``init_cfg`` weights are drawn as torch does, as in the
            literature.
    """
