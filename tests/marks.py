"""Marks of tests; which of them are left out by default, pyproject.toml says."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest
import torch


def slow_but(sample: Collection[str], cases: Iterable[str]) -> list[Any]:
    """Parameters for all cases, of which those that are not in the sample are slow."""
    return [
        case if case in sample else pytest.param(case, marks=pytest.mark.slow) for case in cases
    ]


def needs_cuda(test: Any) -> Any:
    """Decorate a test that needs a CUDA GPU."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
    return pytest.mark.cuda(skip(test))
