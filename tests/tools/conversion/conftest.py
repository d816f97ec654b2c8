"""Checkpoints of the CRD zoo, filled by the rule of ``golden/README.md``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conversion import crd_network

GOLDEN = Path(__file__).parent / 'golden'


def wave_tensor(index: int, key: str, shape: tuple[int, ...], gain: float) -> Tensor:
    if key.endswith('num_batches_tracked'):
        return torch.zeros((), dtype=torch.long)
    j = np.arange(int(np.prod(shape)), dtype=np.float64)
    wave = np.sin(0.37 * j + 0.11 * index + (0.0001 * j**2 % 6.283))
    if key.endswith('running_var'):
        values = 1 + 0.3 * wave
    elif key.endswith('running_mean'):
        values = 0.1 * wave
    elif len(shape) == 1:
        values = 1 + 0.2 * wave if key.endswith('weight') else 0.05 * wave
    else:
        values = gain * np.sqrt(2 / np.prod(shape[1:])) * wave
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


@pytest.fixture(scope='session')
def crd_tables() -> dict[str, dict]:
    """Per network: gain of the rule, number of entries, hash of the key table."""
    return json.loads((GOLDEN / 'crd_keys.json').read_text())


@pytest.fixture(scope='session')
def crd_logits() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / 'crd_logits.npz', allow_pickle=False) as golden:
        return dict(golden)


@pytest.fixture(scope='session')
def crd_state(crd_tables: dict[str, dict]) -> Callable[..., dict[str, Tensor]]:
    """Makes the state dict of a network of the zoo, filled by the rule."""

    def fill(name: str, num_classes: int = 100) -> dict[str, Tensor]:
        network = crd_network(name)
        own = network.build(num_classes).state_dict()
        shapes = {network.source_key(key): tuple(tensor.shape) for key, tensor in own.items()}
        gain = crd_tables[name]['gain'] if name in crd_tables else 1.0
        return {
            key: wave_tensor(index, key, shape, gain)
            for index, (key, shape) in enumerate(shapes.items())
        }

    return fill
