"""Eval mode, and watched modules, for a while."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmkdlayer.models.evaluating import evaluating, outputs_of


def test_modes_come_back_as_they_were() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]


def test_outputs_of_modules_in_the_order_in_which_they_run() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU())
    with pytest.raises(KeyError), outputs_of(dict(last=model[2], flat=model[0])) as found:
        result = model(torch.ones(1, 2, 1))
        raise KeyError
    assert list(found) == ['flat', 'last']
    assert found['last'] is result and found['flat'].shape == (1, 2)
    assert not any(module._forward_hooks for module in model)
