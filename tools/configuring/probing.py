"""Runs a network once and notes which modules ran, in which order, with which outputs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mmkdlayer.errors import ConfigError
from mmkdlayer.models.evaluating import evaluating
from mmkdlayer.models.tokens import TokenLayout, TokenLayoutFinder, choose_output, replace_output

from .networks import as_config_error, image_channels

ROOT = 'backbone'
#: Tokens before the positions that are tried where what the network says does not fit a module.
EXTRA_TOKENS = (0, 1, 2)


@dataclass
class Map:
    """An output with positions: a feature map (N, C, H, W), or tokens (N, L, C)."""

    shape: tuple[int, ...]  #: (C, H, W)
    layout: TokenLayout | None = None  #: of tokens
    told: bool = True  #: whether the network tells the layout of its tokens


@dataclass
class Call:
    """One run of a module."""

    name: str  #: the module's dotted name
    module: nn.Module
    inputs: list[Tensor]  #: the tensors among its arguments
    outputs: dict[
        int | str | None, Tensor
    ]  #: by index or name; None is that of a module's one tensor
    maps: dict[int | str | None, Map]  #: those that have several positions
    versions: dict[int | str | None, int]  #: how often each output had been written to at the end
    order: int  #: position among all runs, by when they ended
    steps: list[Call]  #: the runs right inside it, of modules that run once

    def overwritten(self, index: int | str | None) -> bool:
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
    model: nn.Module = field(repr=False)  #: a copy of the network
    image: Tensor = field(repr=False)  #: what it was run on

    @property
    def steps(self) -> list[Call]:
        """What the backbone runs, or what the network runs that it wraps, such as that of LoRAModel."""
        steps = self.once[ROOT].steps if ROOT in self.once else []
        while len(steps) == 1 and steps[0].steps:
            steps = steps[0].steps
        return steps

    def reaches(self, call: Call, index: int | str | None) -> bool:
        """Whether what the network returns depends on the positions of a module's output.

        Measured: zeros are added to them, as a KD layer adds to them, and get a gradient or not.
        """
        added: list[Tensor] = []

        def add(module: nn.Module, args: Any, output: Any) -> Any:
            x = choose_output(output, index, self.title, 'MODULE:INDEX')
            layout = call.maps[index].layout
            zeros = torch.zeros_like(layout.to_map(x) if layout else x, requires_grad=True)
            added.append(zeros)
            new = layout.to_tokens(zeros, torch.zeros_like(x)) if layout else zeros
            return replace_output(output, x, x + new)

        handle = self.model.get_submodule(call.name).register_forward_hook(add)
        what = f'{self.title}: the gradient of what it returns by what {call.name} returns fails'
        try:
            with as_config_error(what), evaluating(self.model), torch.enable_grad():
                results = _tensors(self.model(self.image, mode='tensor'))
                generator = torch.Generator().manual_seed(0)
                for result in results:
                    if result.requires_grad:
                        weights = torch.randn(result.shape, generator=generator)
                        result.backward(weights, retain_graph=True)
        finally:
            handle.remove()
        gradients = [zeros.grad for zeros in added]
        return any(grad is not None and bool((grad != 0).any()) for grad in gradients)


def probe(model: nn.Module, image_size: int, role: str, name: str) -> Trace:
    """Run a network in eval mode on one random image (1, C, S, S); it is left as it was.

    ``role`` (``teacher`` or ``student``) and ``name`` are for messages.

    Raises:
        ConfigError: It does not run on images of this size.
    """
    title, size = f'The {role} {name}', f'{image_size}x{image_size}'
    shape = (1, image_channels(model), image_size, image_size)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    model = _sharing_copy(model)
    finders = {
        path: TokenLayoutFinder(title, model, path) for path, _ in model.named_modules() if path
    }
    calls: list[Call] = []
    inside: list[list[Call]] = [[]]  # the calls that ended in each module that is running
    turned: set[tuple] = set()  # what would be tokens (N, L, C) that are returned as (N, C, L)

    def enter(module: nn.Module, args: Any) -> None:
        inside.append([])

    def leave(path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        outputs = _outputs(output)
        maps = {
            index: _map(tensor, output, finders[path])
            for index, tensor in outputs.items()
            if (tensor.data_ptr(), *tensor.shape[1:]) not in turned
        }
        for tensor in outputs.values():
            if tensor.dim() == 3 and tensor.size(1) != tensor.size(2):
                turned.add((tensor.data_ptr(), tensor.size(2), tensor.size(1)))
        call = Call(
            name=path,
            module=module,
            inputs=_tensors((args, kwargs)),
            outputs=outputs,
            maps={index: found for index, found in maps.items() if found is not None},
            versions={index: tensor._version for index, tensor in outputs.items()},
            order=len(calls),
            steps=inside.pop(),
        )
        calls.append(call)
        inside[-1].append(call)

    handles = []
    for path in finders:
        module = model.get_submodule(path)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(partial(leave, path), with_kwargs=True))
    what = f'{title} does not run on images of {size}'
    advice = ' Choose another --image-size, or another network.'
    with as_config_error(what, advice), evaluating(model), torch.no_grad():
        model(image, mode='tensor')
    for handle in handles:
        handle.remove()
    counts = Counter(call.name for call in calls)
    for call in calls:
        call.steps = [step for step in call.steps if counts[step.name] == 1]
    once = {call.name: call for call in calls if counts[call.name] == 1}
    return Trace(role, title, size, counts, once, model, image)


def _sharing_copy(model: nn.Module) -> nn.Module:
    """A copy with modules of its own and the network's own weights, without gradients of them."""
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if not is_lazy(tensor)]
    return copy.deepcopy(model, {id(tensor): tensor.detach() for tensor in tensors})


def _outputs(output: Any) -> dict[int | str | None, Tensor]:
    """The tensors that a module returns, by index or name."""
    items: Any = [(None, output)]
    if isinstance(output, Mapping):
        items = output.items()
    elif isinstance(output, (tuple, list)):
        items = enumerate(output)
    return {index: item for index, item in items if isinstance(item, Tensor)}


def _map(tensor: Tensor, output: Any, finder: TokenLayoutFinder) -> Map | None:
    """How an output for one square image has positions; None if it has one position or none."""
    if tensor.dim() == 4 and tensor.size(2) == tensor.size(3) > 1:
        return Map(tuple(tensor.shape[1:]))
    if (
        tensor.dim() != 3 or tensor.size(0) != 1 or tensor.size(2) == 1
    ):  # a pooled (N, C, 1) is none
        return None
    found = None
    for extra in (None, *EXTRA_TOKENS):
        finder.extra_tokens = extra
        try:
            found = finder.layout(tensor, output)
        except ConfigError:
            continue
        break
    if found is None or found.height * found.width < 2:
        return None
    return Map((tensor.size(2), found.height, found.width), found, told=extra is None)


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if isinstance(value, Tensor) else []
