"""Models in eval mode, or watched, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Models in eval mode; every module's own mode comes back afterwards."""
    modes = {module: module.training for model in models for module in model.modules()}
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def outputs_of(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """What modules return while the block runs, by name in the order in which they run."""
    found: dict[str, Any] = {}

    def keep(name: str, module: nn.Module, args: Any, output: Any) -> None:
        found[name] = output

    handles = [
        module.register_forward_hook(partial(keep, name)) for name, module in modules.items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
