"""Eval mode for a while."""

from __future__ import annotations

import pytest
from torch import nn

from mmkdlayer.models.evaluating import evaluating


def test_modes_come_back_as_they_were() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]
