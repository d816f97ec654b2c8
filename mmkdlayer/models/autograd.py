"""What the autograd functions here have in common."""

from __future__ import annotations

import torch


def refuse_second_derivative(name: str) -> None:
    """Call this first in a backward pass that is not differentiable itself.

    Raises:
        RuntimeError: The backward pass is being recorded; torch would silently leave terms out.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f'{name} has no second derivative: do not differentiate its gradient (create_graph=True).'
        )
