"""Runs a network once and notes which modules ran, in which order, with which outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmkdlayer.errors import ConfigError


@dataclass
class Call:
    """One run of a module.

    Attributes:
        name: The module's dotted name.
        module: The module.
        order: Position among all runs, by when they ended.
        inputs: The tensors among its arguments.
        outputs: Its output tensors by index; one tensor that is no tuple has the index None.
        versions: For each output, how often it had been written to when the module ended.
    """

    name: str
    module: nn.Module
    order: int
    inputs: list[Tensor]
    outputs: dict[int | None, Tensor]
    versions: dict[int | None, int]

    @property
    def depth(self) -> int:
        """How deep the module lies."""
        return self.name.count('.')

    @property
    def map(self) -> Tensor | None:
        """The output where it is one feature map (N, C, H, W)."""
        output = self.outputs.get(None)
        return output if output is not None and output.dim() == 4 else None

    def overwritten(self, index: int | None) -> bool:
        """Whether an output was changed in place after the module had ended."""
        return self.outputs[index]._version != self.versions[index]


class Trace:
    """The calls of one forward pass.

    Args:
        calls: All of them, in the order in which they ended.
    """

    def __init__(self, calls: list[Call]) -> None:
        counts = Counter(call.name for call in calls)
        #: Modules that ran exactly once, by name, in the order in which they ended.
        self.once = {call.name: call for call in calls if counts[call.name] == 1}
        self.counts = counts

    def within(self, prefix: str) -> Iterator[Call]:
        """The calls of a module and of those inside it."""
        for name, call in self.once.items():
            if name == prefix or name.startswith(f'{prefix}.'):
                yield call

    def steps(self, name: str) -> list[Call]:
        """What ran next inside a module: the called modules with no called module around them."""
        steps: list[Call] = []
        for call in sorted(self.within(name), key=lambda call: call.depth):
            around = any(call.name.startswith(f'{step.name}.') for step in steps)
            if call.name != name and not around:
                steps.append(call)
        return sorted(steps, key=lambda call: call.order)


def flatten(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in flatten(item)]
    return []


def probe(model: nn.Module, image_size: int, role: str) -> Trace:
    """Run a network in eval mode on one random image.

    Args:
        model: The network; left as it was.
        image_size: Side of the image, in pixels.
        role: What it is, for the message.

    Raises:
        ConfigError: It does not run on images of this size.
    """
    calls: list[Call] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs: dict[int | None, Tensor] = {None: output}
            elif isinstance(output, (tuple, list)):
                outputs = {i: item for i, item in enumerate(output) if isinstance(item, Tensor)}
            else:
                outputs = {}
            versions = {index: tensor._version for index, tensor in outputs.items()}
            calls.append(Call(name, module, len(calls), flatten(args), outputs, versions))

        return hook

    handles = [m.register_forward_hook(note(name)) for name, m in model.named_modules() if name]
    modes = {module: module.training for module in model.modules()}
    image = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    try:
        model.eval()
        with torch.no_grad():
            model(image, mode='tensor')
    except Exception as error:
        text = ' '.join(str(error).split())[:200]
        raise ConfigError(
            f'The {role} does not run on images of {image_size}x{image_size} ({type(error).__name__}: '
            f'{text}). Choose another --image-size, or another network.'
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return Trace(calls)
