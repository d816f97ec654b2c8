"""From a batch of teacher feature maps to checked positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from torch import Tensor

from mmkdlayer.errors import DataError

from .distributed import default_device
from .numerics import working_device


class FeatureReader:
    """Pools, checks and flattens the feature maps of one teacher layer.

    Args:
        size: (h, w) to which larger maps are average-pooled (method, section 2c); None keeps them.
    """

    def __init__(self, size: Optional[tuple[int, int]] = None) -> None:
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.channels = 0
        self.device = working_device(default_device())

    def read(self, features: Tensor) -> Tensor:
        """Flatten maps to positions.

        Args:
            features: (B, D, H, W).

        Returns:
            (B, P, D), float32, contiguous; P = h * w.

        Raises:
            DataError: Not four dimensions, maps smaller than ``size``, other channels than in the
                batches before, or values that are not finite.
        """
        if features.dim() != 4 or not features.is_floating_point():
            raise DataError(
                'Teacher features must be floating point maps (B, D, H, W), but a batch has '
                f'shape {tuple(features.shape)} and type {features.dtype}. Read the teacher before '
                'its global pooling.'
            )
        self.check_channels(features.shape[1])
        self.device = working_device(features.device)
        features = self._pool(features.detach().to(self.device).float())
        # A sum shows NaN and infinity at a fraction of the cost of looking at every value.
        if not torch.isfinite(features.sum()) and not torch.isfinite(features).all():
            raise DataError(
                'Teacher features hold values that are not finite (NaN or infinity). Check the '
                'checkpoint and the normalisation of the images, or run the teacher in float32.'
            )
        return features.flatten(2).transpose(1, 2).contiguous()

    def state(self) -> dict[str, Tensor]:
        """What the batches so far have shown, as tensors."""
        accelerator = self.device.type != 'cpu'
        return dict(channels=torch.tensor(self.channels), accelerator=torch.tensor(accelerator))

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave, with the device that this process computes on."""
        self.channels = int(state['channels'])
        if bool(state['accelerator']):
            self.device = working_device(torch.device(get_device()))

    def check_channels(self, channels: int) -> None:
        """Check that a batch, or another rank, has as many channels as the batches before."""
        if self.channels not in (0, channels):
            raise DataError(
                f'Teacher features have {channels} channels in a batch, but {self.channels} in the '
                'batches before. Every batch must come from the same layer.'
            )
        self.channels = channels

    def _pool(self, features: Tensor) -> Tensor:
        shape = (features.shape[2], features.shape[3])
        if self.size is None or shape == self.size:
            return features
        if shape[0] < self.size[0] or shape[1] < self.size[1]:
            raise DataError(
                f'The teacher map is {shape[0]}x{shape[1]}, smaller than the {self.size[0]}x'
                f'{self.size[1]} of the student at this place; a larger or equal map was expected. '
                'Read an earlier layer of the teacher or place the KD layer later in the student.'
            )
        return F.adaptive_avg_pool2d(features, self.size)


def check_labels(labels: Tensor, num_images: int, num_classes: int) -> None:
    """Check the labels of one batch.

    Args:
        labels: (B,), integers.
        num_images: B.
        num_classes: C.

    Raises:
        DataError: Another shape or type, or a label outside of [0, C).
    """
    if labels.shape != (num_images,) or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f'Labels must be {num_images} class indices, one an image, but have shape '
            f'{tuple(labels.shape)} and type {labels.dtype}. Fit without label mixing.'
        )
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise DataError(
            f'Label {int(wrong[0])} is outside of the {num_classes} classes 0 to '
            f'{num_classes - 1}. Set num_classes to what the data set holds, or mend its labels.'
        )


def check_same_data(first: Tensor, again: Tensor) -> None:
    """Check that a later pass has given as many positions (of each class) as the first one.

    Raises:
        DataError: It has not.
    """
    if not torch.equal(first, again):
        raise DataError(
            f'A later pass over the data gave {int(again.sum())} positions, the first '
            f'{int(first.sum())}, or other labels. The data must be the same each time it is '
            'iterated: no one-shot generator, no random sampling.'
        )
