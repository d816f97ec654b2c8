"""Tiny distillations with mmrazor's own distillers and algorithms."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import mixing_cases as cases
import pytest
import torch
from mmengine.runner import Runner
from seeded_training import make_config
from torch import nn


@pytest.fixture
def stock_config(
    distillation_config: Callable[..., dict], kd_layer_configs: Callable[..., dict]
) -> Callable[..., dict]:
    """letKD-2 with one of mmrazor's distillers around a student that brings its KD layers."""

    def make(kind: str = 'ConfigurableDistiller', **changes: Any) -> dict:
        return cases.stock(distillation_config(**changes), kd_layer_configs(), kind)

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Runner]:
    """Train a model by mmengine's Runner on 12 images of 16x16."""
    count = 0

    def call(model: dict, name: str = 'work', **changes: Any) -> Runner:
        nonlocal count
        count += 1
        cfg = make_config(model, tmp_path / name, **changes)
        cfg.experiment_name = f'{tmp_path.name}-mixing-{count}'
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return call


@pytest.fixture
def decision_file(tmp_path: Path) -> Callable[..., str]:
    """A file of a decision over the tiny student's penultimate templates."""
    from mmkdlayer.models import CentroidDecision

    def write(channels: int, centroids: int = 5) -> str:
        path = tmp_path / f'{channels}.safetensors'
        CentroidDecision.from_tables(torch.randn(centroids, channels)).save(path)
        return str(path)

    return write


@pytest.fixture
def backward() -> Callable[..., dict]:
    """Losses of a batch, all finite, and gradients of their sum."""

    def run_step(model: nn.Module, batch: tuple) -> tuple[dict, dict]:
        model.train()
        losses = model(*batch, mode='loss')
        total, log = model.parse_losses(losses)
        total.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert all(torch.isfinite(value).all() for value in (*log.values(), *gradients.values()))
        return log, gradients

    return run_step
