"""The training set is compared with the network before the first step, whatever is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from mmengine.runner import Runner

from mmkdlayer.errors import ConfigError


def test_stops_a_training_before_it_begins(
    train: Callable[..., Runner], classifier_config: Callable[..., dict], tmp_path: Path
) -> None:
    network = classifier_config()
    network['backbone']['strides'] = (4, 2, 2)  # to a map of 1x1
    images = dict(type='SeededImages', length=9, pipeline=())
    loader = dict(batch_size=4, dataset=images, sampler=dict(type='DefaultSampler'), num_workers=0)
    hooks = [dict(type='mmkdlayer.CheckDataHook')]
    with pytest.raises(ConfigError, match=r'9 in batches of 4.*drop_last=True'):
        train(model=network, train_dataloader=loader, custom_hooks=hooks)
    assert not list(tmp_path.rglob('*.pth'))
