"""Logits that losses are tried with: usual ones, and the cases at the edges."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EDGES = ('half', 'huge', 'equal', 'one_class')


def logits(
    images: int = 6, classes: int = 5, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Of a student, which needs gradients, and of a teacher."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = 3 * torch.randn(2, images, classes, generator=generator, dtype=torch.float64)
    return student.to(dtype).requires_grad_(), (1 + 2 * teacher).to(dtype)


def edge(kind: str) -> tuple[Tensor, Tensor]:
    """Logits in half precision, with probabilities of zero, all equal, or of a single class."""
    student, teacher = logits(classes=1 if kind == 'one_class' else 5, dtype=torch.float32)
    if kind == 'half':
        return logits(dtype=torch.float16)
    with torch.no_grad():
        if kind == 'huge':
            student[:, 1], teacher[:, 1], teacher[:, 2] = -2e4, -3e4, 3e4
        if kind == 'equal':
            student[:2], teacher[1:3] = 0.5, -1.0
    return student, teacher


def check_edge(kind: str, compute: Callable[[Tensor, Tensor], Tensor]) -> float:
    """A loss's value: it and its gradient are finite, in float32, and do not depend on autocast."""
    student, teacher = edge(kind)
    loss = compute(student, teacher)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.dim() == 0
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()
    assert student.grad.dtype == student.dtype
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(compute(student, teacher), loss)
    if kind == 'half':
        exact = compute(student.detach().double(), teacher.double())
        torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
    if kind == 'one_class':
        assert not student.grad.any()
    return loss.item()
