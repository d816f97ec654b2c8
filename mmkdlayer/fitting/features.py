"""From a batch of teacher feature maps to checked positions."""

from __future__ import annotations

from typing import Optional

import torch
from mmengine import dist
from mmengine.device import get_device
from torch import Tensor

from mmkdlayer.errors import DataError
from mmkdlayer.models.decisions.base import pool_to

from .distributed import errors_on_all_ranks


class FeatureReader:
    """Pools, checks and flattens the feature maps of one teacher layer.

    Args:
        size: (h, w) to which larger maps are average-pooled (docs/method.md, section 2c); None keeps
            them.

    Attributes:
        channels: D of the batches so far; 0 before the first one.
        device: Where to calculate.
    """

    def __init__(self, size: Optional[tuple[int, int]] = None) -> None:
        self.size = size
        self.channels = 0
        # A rank that gets no data at all does its share of the work too.
        alone = dist.get_world_size() == 1
        self.device = working_device(torch.device('cpu') if alone else dist.get_comm_device())

    def read(self, features: Tensor) -> Tensor:
        """Flatten maps to positions.

        Args:
            features: (B, D, H, W).

        Returns:
            (B, P, D), float32, contiguous; P = h * w.

        Raises:
            ConfigError: Maps smaller than ``size``.
            DataError: Not four dimensions, other channels than in the batches before, or values that
                are not finite.
        """
        if features.dim() != 4 or not features.is_floating_point():
            raise DataError(
                'Teacher features must be floating point maps (B, D, H, W), but a batch has '
                f'shape {tuple(features.shape)} and type {features.dtype}. Read the teacher before '
                'its global pooling.'
            )
        self._check_channels(features.shape[1])
        self.device = working_device(features.device)
        features = pool_to(features.detach().to(self.device).float(), self.size)
        # A sum shows NaN and infinity at a fraction of the cost of looking at every value.
        if not torch.isfinite(features.sum()) and not torch.isfinite(features).all():
            raise DataError(
                'Teacher features hold values that are not finite (NaN or infinity). Check the '
                'checkpoint and the normalisation of the images, or run the teacher in float32.'
            )
        return features.flatten(2).transpose(1, 2).contiguous()

    def merge_ranks(self) -> None:
        """Learn the channels from the ranks that have got features; all ranks must call it."""
        channels = max(dist.all_gather_object(self.channels))
        with errors_on_all_ranks():
            self._check_channels(channels)

    def _check_channels(self, channels: int) -> None:
        if self.channels not in (0, channels):
            raise DataError(
                f'Teacher features have {channels} channels in a batch, but {self.channels} in the '
                'batches before. Every batch must come from the same layer.'
            )
        self.channels = channels

    def state(self) -> dict[str, Tensor]:
        """What the batches so far have shown."""
        accelerator = self.device.type != 'cpu'
        return dict(channels=torch.tensor(self.channels), accelerator=torch.tensor(accelerator))

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what :meth:`state` gave, on the device that this process computes on."""
        self.channels = int(state['channels'])
        if bool(state['accelerator']):
            self.device = working_device(torch.device(get_device()))


def working_device(device: torch.device) -> torch.device:
    """The device to fit on for features on ``device``: the CPU if it has no float64."""
    return torch.device('cpu') if device.type == 'mps' else device


def check_labels(labels: Optional[Tensor], num_images: int, num_classes: int) -> Tensor:
    """The labels of one batch, checked.

    Args:
        labels: (B,), integers.
        num_images: B.
        num_classes: C.

    Raises:
        DataError: None at all, another shape or type, or a label outside of [0, C).
    """
    if labels is None:
        raise DataError('Sub-classes need the label of every image, but the data gives none.')
    if labels.shape != (num_images,) or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f'Labels must be {num_images} class indices, one an image, but have shape '
            f'{tuple(labels.shape)} and type {labels.dtype}. Fit without label mixing.'
        )
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise DataError(
            f'Label {int(wrong[0])} is outside of the {num_classes} classes 0 to '
            f'{num_classes - 1}. Set num_classes to what the data set holds, or fix its labels.'
        )
    return labels


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
