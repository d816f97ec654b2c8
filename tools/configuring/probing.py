"""Runs a network once and notes which modules ran, in which order, with which outputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.deploy.example_images import first_channels
from mmkdlayer.models.evaluating import evaluating

from .networks import as_config_error

ROOT = 'backbone'


@dataclass
class Call:
    """One run of a module."""

    name: str  #: the module's dotted name
    module: nn.Module
    inputs: list[Tensor]  #: the tensors among its arguments
    outputs: dict[int | None, Tensor]  #: by index; one tensor that is no tuple has the index None
    versions: dict[int | None, int]  #: how often each output had been written to at the end
    order: int  #: position among all runs, by when they ended
    steps: list[Call]  #: the runs right inside it, of modules that run once

    def overwritten(self, index: int | None) -> bool:
        """Whether an output was changed in place after the module had ended."""
        return self.outputs[index]._version != self.versions[index]


@dataclass
class Trace:
    """One forward pass of a network."""

    role: str  #: teacher or student
    title: str  #: as messages call the network
    size: str  #: of the image, as messages name it
    counts: Counter[str]  #: how often each module ran
    once: dict[str, Call]  #: modules that ran exactly once, in the order in which they ended

    @property
    def steps(self) -> list[Call]:
        """What the backbone runs."""
        return self.once[ROOT].steps if ROOT in self.once else []


def probe(model: nn.Module, image_size: int, role: str, name: str) -> Trace:
    """Run a network in eval mode on one random image (1, C, S, S); it is left as it was.

    C is what its first convolution takes.

    Args:
        model: The network.
        image_size: S, in pixels.
        role: ``teacher`` or ``student``, for messages.
        name: What the user calls it, for messages.

    Raises:
        ConfigError: It does not run on images of this size.
    """
    calls: list[Call] = []
    inside: list[list[Call]] = [[]]  # the calls that ended in each module that is running

    def enter(module: nn.Module, args: Any) -> None:
        inside.append([])

    def leave(name: str, module: nn.Module, args: Any, output: Any) -> None:
        items = enumerate(output) if isinstance(output, (tuple, list)) else [(None, output)]
        outputs = {index: item for index, item in items if isinstance(item, Tensor)}
        versions = {index: tensor._version for index, tensor in outputs.items()}
        steps = inside.pop()
        calls.append(Call(name, module, _tensors(args), outputs, versions, len(calls), steps))
        inside[-1].append(calls[-1])

    handles = []
    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(partial(leave, path)))
    title, size = f'The {role} {name}', f'{image_size}x{image_size}'
    what = f'{title} does not run on images of {size}'
    advice = ' Choose another --image-size, or another network.'
    shape = (1, first_channels(model), image_size, image_size)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    try:
        with as_config_error(what, advice), evaluating(model), torch.no_grad():
            model(image, mode='tensor')
    finally:
        for handle in handles:
            handle.remove()
    counts = Counter(call.name for call in calls)
    for call in calls:
        call.steps = [step for step in call.steps if counts[step.name] == 1]
    once = {call.name: call for call in calls if counts[call.name] == 1}
    return Trace(role, title, size, counts, once)


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if isinstance(value, Tensor) else []
