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


def devices(slow_on_cpu: bool = False) -> list[Any]:
    """Parameters for the tests in ``tests/cuda``: a GPU where there is one, else the CPU as a dry run.

    Args:
        slow_on_cpu: Whether the dry run is left out with the slow tests.
    """
    there = torch.cuda.is_available()
    cpu = [pytest.mark.skipif(there, reason='there is a GPU')]
    if slow_on_cpu:
        cpu.append(pytest.mark.slow)
    cuda = [pytest.mark.cuda, pytest.mark.skipif(not there, reason='needs a CUDA GPU')]
    return [pytest.param('cpu', marks=cpu), pytest.param('cuda', marks=cuda)]
