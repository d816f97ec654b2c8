"""A frozen teacher that computes what is read of it and no more."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.precision import is_compiling

#: Recorders of mmrazor that read a module as it runs, or need no forward pass at all.
MODULE_RECORDERS = ('ModuleOutputsRecorder', 'ModuleInputsRecorder')
PASSIVE_RECORDERS = ('ParameterRecorder',)


class _EnoughReadError(Exception):
    """Leaves the teacher's forward pass; never seen outside of it."""


class EarlyExitForward:
    """Stands in for a teacher's ``forward``: with ``mode='loss'`` it ends after the last module read.

    How often modules that are read run is counted in the first forward pass with inputs of a shape,
    which is complete. A pass that was ended gives no losses: mmrazor ignores those of a frozen
    teacher. Other modes are left alone.

    A plain object, so that a deep copy of the teacher refers to the copy and the teacher pickles.

    Args:
        teacher: The network; forward hooks are registered on its modules that are read.
        read: Names of those modules; with None every pass is complete.
        dtype: Run under autocast with this dtype; None for the precision around it.
        channels_last: Put the images in channels-last order.
    """

    def __init__(
        self,
        teacher: nn.Module,
        read: Iterable[str] | None,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        self.teacher = teacher
        self.channels_last = channels_last
        self.dtype = dtype
        self.calls_by_shape: dict[Any, int] = {}
        self.calls, self.stop_at, self.armed = 0, 0, False
        self.stops = read is not None
        for name in sorted(set(read or ())):
            # After the recorder's own hook, so the recorder has what it wants.
            teacher.get_submodule(name).register_forward_hook(self.count)

    def count(self, module: nn.Module, args: Any, output: Any) -> None:
        """A module that is read has run."""
        if self.armed:
            self.calls += 1
            if self.calls == self.stop_at:
                raise _EnoughReadError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The teacher's forward pass, or an empty dict in place of the losses that nobody reads."""
        forward = partial(type(self.teacher).forward, self.teacher)
        given = {**dict(zip(('inputs', 'data_samples', 'mode'), args)), **kwargs}
        if given.pop('mode', None) != 'loss':
            return forward(*args, **kwargs)
        inputs, samples = given.pop('inputs'), given.pop('data_samples', None)
        is_batch = isinstance(inputs, Tensor)
        if self.channels_last and is_batch and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        labelled = _have_labels(samples)
        # A head's loss would ask for labels.
        run = partial(forward, inputs, samples, mode='loss' if labelled else 'tensor', **given)
        device = inputs.device.type if is_batch else 'cpu'
        with nullcontext() if self.dtype is None else torch.autocast(device, self.dtype):
            if not self.stops or is_compiling():
                losses = run()
                return losses if labelled else {}
            shape = getattr(inputs, 'shape', None)
            self.calls, self.stop_at = 0, self.calls_by_shape.get(shape, 0)
            self.armed = True
            try:
                losses = run()
            except _EnoughReadError:
                return {}
            finally:
                self.armed = False
            self.calls_by_shape[shape] = self.calls
            return losses if labelled else {}


def _have_labels(data_samples: Any) -> bool:
    """Whether a teacher's head may find labels; only mmpretrain's samples are known to lack them."""
    first = data_samples[0] if data_samples else None
    lacks = isinstance(first, DataSample) and 'gt_label' not in first and 'gt_score' not in first
    return first is not None and not lacks


def read_modules(recorders: Iterable[Any]) -> list[str] | None:
    """Names of the modules that mmrazor's recorders read; None where they read other things too."""
    names = []
    for recorder in recorders:
        kind = type(recorder).__name__
        if kind in MODULE_RECORDERS and recorder.source:  # an empty source is the whole model
            names.append(recorder.source)
        elif kind not in PASSIVE_RECORDERS:
            return None
    return names or None


def parse_dtype(name: str | None) -> torch.dtype | None:
    """The dtype of a config's ``teacher_dtype``.

    Raises:
        ConfigError: It is not one that autocast knows.
    """
    dtypes = dict(bfloat16=torch.bfloat16, float16=torch.float16)
    if name is None:
        return None
    if name not in dtypes:
        raise ConfigError(
            f'KDLayerDistiller: teacher_dtype must be one of {", ".join(dtypes)}, or None for the '
            f"student's precision, but got {name!r}."
        )
    return dtypes[name]
