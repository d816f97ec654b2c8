"""What the autograd functions here have in common."""

from __future__ import annotations

import torch

from mmkdlayer.errors import ConfigError


def check_implementation(owner: str, implementation: str) -> None:
    """Raise a ConfigError where an argument ``implementation`` has an unknown value."""
    if implementation not in ('memory_efficient', 'reference'):
        raise ConfigError(
            f"{owner}: implementation must be 'memory_efficient' or 'reference', but got "
            f'{implementation!r}.'
        )


def refuse_second_derivative(name: str) -> None:
    """Call this first in a backward pass that is not differentiable itself.

    Raises:
        RuntimeError: The backward pass is being recorded; torch would silently leave terms out.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f'{name} has no second derivative: do not differentiate its gradient (create_graph=True).'
        )
