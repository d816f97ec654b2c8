"""A small distillation model with the data set of its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmengine.registry import init_default_scope
from seeded_training import make_config
from torch import nn

from mmkdlayer.registry import MODELS


@pytest.fixture
def build(
    distillation_config: Callable[..., dict], tmp_path: Path
) -> Callable[..., tuple[nn.Module, Any]]:
    """A model with seeded weights, and its config with a data set."""

    def call(
        dataset: str = 'SeededImages', letkd1: bool = False, **penult: Any
    ) -> tuple[nn.Module, Any]:
        model_cfg = distillation_config()
        model_cfg['distiller']['kd_layers']['penult'].update(penult)
        if letkd1:
            del model_cfg['distiller']['kd_layers']['inter']
        cfg = make_config(model_cfg, tmp_path)
        cfg.train_dataloader.dataset.type = dataset
        init_default_scope('mmpretrain')
        torch.manual_seed(0)
        model = MODELS.build(dict(cfg.model))
        model.init_weights()
        return model, cfg

    return call
