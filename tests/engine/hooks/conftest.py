from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
from mmengine.runner import Runner
from seeded_training import make_config


@pytest.fixture
def train(distillation_config: Callable[..., dict], tmp_path: Path) -> Callable[..., Runner]:
    count = 0

    def call(name: str = 'work', model: dict | None = None, **changes: Any) -> Runner:
        nonlocal count
        count += 1
        cfg = make_config(model or distillation_config(), tmp_path / name, **changes)
        cfg.experiment_name = f'{tmp_path.name}-{count}'
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return call
