"""What the fitters of decisions share: checked positions, their counts, the passes, the state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Optional

import torch
from mmengine import dist
from mmengine.device import get_device
from torch import Tensor

from mmkdlayer.errors import DataError
from mmkdlayer.models.decisions.sizes import pool_to

from .distributed import errors_on_all_ranks, sum_over_ranks
from .numerics import exact_float32
from .sampling import HashSample, PositionHashes

# Reading a value from a device waits for all that it has to do: once in so many batches.
_CHECK_INTERVAL = 32

#: Tensors by name, and dicts of them.
State = dict[str, Any]


class Fitter(ABC):
    """Learns a decision from some passes over a teacher's features.

    A subclass calls :meth:`_begin` and implements :meth:`_start`, :meth:`_add` and :meth:`_finish`;
    what they keep beside ``_sample`` is for :meth:`_state`, :meth:`_restore` and :meth:`close`.

    Attributes:
        num_passes: How often the data is gone through.
        num_batches: How many there are in a pass, as far as is known: room is made for them at once.
        size: (h, w) to which larger maps are average-pooled (docs/method.md, section 2c); None keeps
            them.
        seed: Chooses the sample.
    """

    num_passes: int
    num_batches: int = 1
    size: Optional[tuple[int, int]]
    seed: int

    def _begin(self, num_passes: int, num_groups: int = 1) -> None:
        self.num_passes = num_passes
        # D of the batches so far; 0 before the first one.
        self._channels = 0
        # Where to calculate. A rank that gets no data at all does its share of the work too.
        alone = dist.get_world_size() == 1
        self._device = working_device(torch.device('cpu') if alone else dist.get_comm_device())
        # Positions of each pass and group; those of all ranks when the pass is over.
        self._counts = torch.zeros(num_passes, num_groups, dtype=torch.int64)
        self._sample: Optional[HashSample] = None
        self._hashes = PositionHashes(self.seed)
        # Whether the features since the last look were finite, and how many batches that are.
        self._finite: Optional[Tensor] = None
        self._unchecked = 0

    def update(self, pass_index: int, features: Tensor, labels: Optional[Tensor] = None) -> None:
        """Take in a batch.

        Args:
            pass_index: Which pass over the data it is.
            features: (B, D, H, W).
            labels: (B,), int64, where the decision needs them; on the CPU, if the host is not to wait
                for the device.

        Raises:
            ConfigError: Maps of one position, where ``size`` has more.
            DataError: Features of not four dimensions, with other channels than before, or with values
                that are not finite, which a device tells some batches later; labels that are missing or
                out of range.
        """
        if features.dim() != 4 or not features.is_floating_point():
            raise DataError(
                'Teacher features must be floating point maps (B, D, H, W), but a batch has '
                f'shape {tuple(features.shape)} and type {features.dtype}. Read the teacher before '
                'its global pooling.'
            )
        self._device = working_device(features.device)
        self._check_channels(features.shape[1])
        if not features.numel():
            return
        features = pool_to(features.detach().to(self._device).float(), self.size)
        # The extremes show NaN and infinity at a fraction of the cost of looking at every value.
        finite = torch.isfinite(torch.stack(torch.aminmax(features))).all()
        self._finite = finite if self._finite is None else self._finite & finite
        self._unchecked += 1
        if self._device.type == 'cpu' or self._unchecked >= _CHECK_INTERVAL:
            self._check_finite()
        self._add(pass_index, features.flatten(2).transpose(1, 2).contiguous(), labels)

    def _check_finite(self) -> None:
        finite, self._finite, self._unchecked = self._finite, None, 0
        if finite is not None and not finite:
            raise DataError(
                'Teacher features hold values that are not finite (NaN or infinity). Check the '
                'checkpoint and the normalisation of the images, or run the teacher in float32.'
            )

    @abstractmethod
    def _start(self) -> None:
        """Make room for the first pass: the channels are known."""

    @abstractmethod
    def _add(self, pass_index: int, positions: Tensor, labels: Optional[Tensor]) -> None:
        """Take in positions (B, P, D), float32, and count them."""

    def finish_pass(self, pass_index: int) -> Any:
        """Work on what the pass has given; all ranks must call it.

        Returns:
            The decision after the last pass, else None.

        Raises:
            DataError: Data that does not suffice, or other data than in the first pass.
            ConfigError: The disk or ``memory_budget`` is too small.
        """
        channels = max(dist.all_gather_object(self._channels))
        with errors_on_all_ranks():
            self._check_finite()
            self._check_channels(channels)
        first, again = self._counts[0], sum_over_ranks(self._counts[pass_index])
        if not torch.equal(first, again):
            raise DataError(
                f'A later pass over the data gave {int(again.sum())} positions, the first '
                f'{int(first.sum())}, or other labels. The data must be the same each time it is '
                'iterated: no one-shot generator, no random sampling.'
            )
        with exact_float32(self._device):
            return self._finish(pass_index)

    @abstractmethod
    def _finish(self, pass_index: int) -> Any:
        """As :meth:`finish_pass`."""

    def _check_channels(self, channels: int) -> None:
        if self._channels not in (0, channels):
            raise DataError(
                f'Teacher features have {channels} channels in a batch, but {self._channels} in the '
                'batches before. Every batch must come from the same layer.'
            )
        if self._channels != channels:
            self._channels = channels
            self._start()

    def state(self) -> State:
        """All that the batches so far have given: tensors by name, nested.

        Raises:
            DataError: Features that were not finite.
        """
        self._check_finite()
        accelerator = torch.tensor(self._device.type != 'cpu')
        channels, own = torch.tensor(self._channels), self._state()
        state = dict(own, channels=channels, accelerator=accelerator, counts=self._counts)
        if self._sample is not None:
            state['sample'] = self._sample.state()
        return state

    def restore(self, state: State) -> None:
        """Continue from what :meth:`state` gave, which is emptied on the way to release memory.

        Raises:
            DataError: What the state needs is not there.
        """
        self._channels = int(state['channels'])
        if state['accelerator']:
            self._device = working_device(torch.device(get_device()))
        self._counts.copy_(state['counts'])
        if 'sample' in state:
            self._sample = HashSample.restored(state['sample'])
        self._restore(state)

    @abstractmethod
    def _state(self) -> State:
        """What the subclass adds to the state."""

    @abstractmethod
    def _restore(self, state: State) -> None:
        """As :meth:`restore`, for what the subclass has added."""

    def close(self) -> None:
        """Release memory and disk, finished or not."""
        self._sample = None


def working_device(device: torch.device) -> torch.device:
    """The device to fit on for features on ``device``: the CPU if it has no float64."""
    return torch.device('cpu') if device.type == 'mps' else device
