"""The device of the tests: see ``marks.devices``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from command_fixtures import images, main  # noqa: F401
from marks import devices


@pytest.fixture(params=devices())
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[False, True], ids=['full', 'TF32'])
def tf32(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Torch's switches for TF32 in matrix products and convolutions: both off, or both on."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = request.param
    yield request.param
    for switch, value in zip(switches, before):
        switch.allow_tf32 = value
