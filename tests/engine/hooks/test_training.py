"""Training by mmengine's Runner: checkpoints, EMA, resuming, load_from."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import torch
from mmengine.runner import Runner
from torch import nn

from mmkdlayer.checkpoints import read_checkpoint


def state_of(path: Path) -> dict:
    return read_checkpoint(path)


def kd_parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p for n, p in model.named_parameters() if '.kd_layers.' in n}


def test_checkpoint_holds_the_student_alone(train: Callable[..., Runner], tmp_path: Path) -> None:
    train()
    checkpoint = state_of(tmp_path / 'work' / 'epoch_1.pth')
    assert {key.split('.')[0] for key in checkpoint['state_dict']} == {'architecture'}
    assert not any('decision' in key for key in checkpoint['state_dict'])


def test_resumed_training_equals_an_uninterrupted_one(
    train: Callable[..., Runner], tmp_path: Path
) -> None:
    two = dict(train_cfg=dict(by_epoch=True, max_epochs=2))
    train('whole', **two)
    train('parts')
    train('parts', resume=True, **two)
    whole = state_of(tmp_path / 'whole' / 'epoch_2.pth')['state_dict']
    parts = state_of(tmp_path / 'parts' / 'epoch_2.pth')['state_dict']
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-5, atol=1e-6)


def test_ema_has_kd_layers_of_its_own(train: Callable[..., Runner], tmp_path: Path) -> None:
    hooks = [
        dict(type='EMAHook', momentum=0.1),
        dict(type='mmkdlayer.CheckWeightsHook'),
        dict(type='mmkdlayer.FitDecisionsHook'),
    ]
    runner = train(custom_hooks=hooks)
    averaged = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model.module
    own, theirs = kd_parameters(runner.model), kd_parameters(averaged)
    assert own.keys() == theirs.keys()
    assert len(own) == 12
    for name, value in own.items():
        assert theirs[name].data_ptr() != value.data_ptr()
    changed = [n for n, v in own.items() if not torch.equal(v, theirs[n])]
    assert len(changed) == 12
    # The averaged student's forward pass runs through its own layers.
    images = torch.randn(2, 3, 16, 16)
    averaged.eval()
    before = averaged(images, mode='tensor')
    with torch.no_grad():
        for value in own.values():
            value.add_(1)
    torch.testing.assert_close(averaged(images, mode='tensor'), before)
    with torch.no_grad():
        theirs['architecture.kd_layers.penult.semantics.weight'].add_(1)
    assert not torch.allclose(averaged(images, mode='tensor'), before)

    checkpoint = state_of(tmp_path / 'work' / 'epoch_1.pth')
    assert not any('teacher' in key for key in checkpoint['ema_state_dict'])
    resumed = train(custom_hooks=hooks, resume=True, train_cfg=dict(by_epoch=True, max_epochs=2))
    assert resumed.epoch == 2


def test_load_from_starts_with_the_loaded_student(
    train: Callable[..., Runner], tmp_path: Path
) -> None:
    train('first')
    path = tmp_path / 'first' / 'epoch_1.pth'
    frozen = dict(optimizer=dict(type='SGD', lr=0.0))
    train('second', load_from=str(path), optim_wrapper=frozen)
    first = state_of(path)['state_dict']
    second = state_of(tmp_path / 'second' / 'epoch_1.pth')['state_dict']
    for key, value in first.items():
        if 'running' not in key and 'num_batches' not in key:
            torch.testing.assert_close(second[key], value)
