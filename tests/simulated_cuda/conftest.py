"""A simulated device for each test that asks for one, and small networks that use it fully."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mmkdlayer.models.connectors import memory_efficient
from simulated_cuda.device import SimulatedCuda, skip_with_old_torch


@pytest.fixture(scope='session', autouse=True)
def torch_that_can_be_simulated() -> None:
    """Before other fixtures, which start processes with such a device."""
    skip_with_old_torch()


@pytest.fixture
def cuda() -> Iterator[SimulatedCuda]:
    """A device on which all that a test does would be accepted under deterministic algorithms too."""
    if torch.cuda.is_available():
        pytest.skip('there is a GPU: it is not simulated')
    with SimulatedCuda() as simulated:
        yield simulated
    assert simulated.refused == set()


@pytest.fixture(autouse=True)
def memory_efficient_in_small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory-efficient way is taken for maps of any size, where the plain one would be faster."""
    monkeypatch.setattr(memory_efficient, 'MIN_SCORES', 0)
