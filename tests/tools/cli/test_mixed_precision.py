"""What ``--amp`` makes of a config, on CPUs and GPUs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, ApexOptimWrapper, OptimWrapper

from cli import mixed_precision, use_amp_in_test, use_amp_in_training
from mmkdlayer.engine import BFloat16OptimWrapper
from mmkdlayer.errors import ConfigError

CLIP = dict(clip_grad=dict(max_norm=1.0))
BFLOAT16 = dict(CLIP, type='mmkdlayer.BFloat16OptimWrapper')


@pytest.fixture(params=['cpu', 'cuda'])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device that is there, and what a GPU tells of itself."""
    monkeypatch.setattr(mixed_precision, 'get_device', lambda: request.param)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Old 5000')
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: request.param == 'cuda')
    return request.param


@pytest.mark.parametrize('dtype', [True, 'bfloat16', 'float16'])
@pytest.mark.parametrize(
    'kind',
    [
        *('OptimWrapper', 'mmengine.OptimWrapper', 'mmengine.optim.OptimWrapper', OptimWrapper),
        *('AmpOptimWrapper', AmpOptimWrapper, BFLOAT16['type'], BFloat16OptimWrapper),
        None,
    ],
)
def test_in_training(kind: Any, dtype: Any, device: str) -> None:
    wrapper = dict(CLIP, loss_scale=512.0, dtype='bfloat16')
    if kind is not None:
        wrapper['type'] = kind
    cfg = Config(dict(optim_wrapper=wrapper))
    if (device, dtype) == ('cpu', 'float16'):
        with pytest.raises(ConfigError, match='--amp float16 expects a GPU.*Use --amp bfloat16'):
            use_amp_in_training(cfg, dtype)
        return
    use_amp_in_training(cfg, dtype)
    scaled = dict(wrapper, type='AmpOptimWrapper', dtype='bfloat16' if dtype is True else dtype)
    without = device == 'cpu' or dtype == 'bfloat16'
    assert cfg.optim_wrapper.to_dict() == (BFLOAT16 if without else scaled)


def test_loss_is_scaled_for_float16(device: str) -> None:
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    use_amp_in_training(cfg, True)
    assert cfg.optim_wrapper.get('loss_scale') == (None if device == 'cpu' else 'dynamic')


@pytest.mark.parametrize('emulated', [True, False])
def test_a_gpu_without_bfloat16(
    emulated: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if emulated:  # as torch counts from 2.5 on

        def check(including_emulation: bool = True) -> bool:
            return including_emulation

        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', check)
    else:
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: False)
    for use in (use_amp_in_training, use_amp_in_test):
        cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
        if device == 'cpu':
            use(cfg, 'bfloat16')
            continue
        with pytest.raises(ConfigError, match='bfloat16 expects a GPU.*Old 5000.*--amp float16'):
            use(cfg, 'bfloat16')


@pytest.mark.parametrize('kind', ['ApexOptimWrapper', ApexOptimWrapper])
def test_another_wrapper(kind: Any) -> None:
    with pytest.raises(ConfigError, match='but the config has ApexOptimWrapper'):
        use_amp_in_training(Config(dict(optim_wrapper=dict(type=kind))), True)


def test_two_optimisers() -> None:
    one = dict(optimizer=dict(type='SGD', lr=0.1))
    with pytest.raises(ConfigError, match=r"one each for \['architecture', 'generator'\]"):
        use_amp_in_training(Config(dict(optim_wrapper=dict(architecture=one, generator=one))), True)


def test_in_test(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.dtype] = []
    monkeypatch.setattr(torch, 'set_autocast_gpu_dtype', chosen.append)
    for entries in ({}, dict(test_cfg=None), dict(test_cfg=dict(type='TestLoop'))):
        cfg = Config(entries)
        use_amp_in_test(cfg, True)
        assert cfg.test_cfg.to_dict() == dict(entries.get('test_cfg') or {}, fp16=True)
    use_amp_in_test(cfg, 'bfloat16')
    assert chosen == ([torch.bfloat16] if device == 'cuda' else [])
