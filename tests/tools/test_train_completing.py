"""What the training command adds to a config, and what it says about it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from command_line import load_tool
from mmengine.config import Config

from mmkdlayer.errors import ConfigError

train, fitting_hook = load_tool('train'), load_tool('fit_decisions').fitting_hook

EPOCHS = dict(by_epoch=True, max_epochs=3)


def completed(options: dict | None = None, **entries: object) -> tuple[Config, list[str]]:
    """A config after the command completed it, and the lines about that."""
    cfg = Config(dict(dict(train_cfg=dict(EPOCHS), model=dict(type='ImageClassifier')), **entries))
    given = cfg.to_dict()
    defaults = dict(launcher='none', work_dir=None, amp=False, auto_scale_lr=False, resume=None)
    train.complete_config(
        cfg, Namespace(config='folder/pair.py', **{**defaults, **(options or {})})
    )
    return cfg, list(train.describe_changes(given, cfg.to_dict()))


def test_hooks_are_added_once() -> None:
    hooks = [dict(type='mmkdlayer.FitDecisionsHook', out_dir='shared')]
    cfg, changes = completed(custom_hooks=hooks, model=dict(distiller=dict()))
    expected = [
        'mmkdlayer.FitDecisionsHook',
        'mmkdlayer.PreemptionHook',
        'mmkdlayer.CheckWeightsHook',
        'mmkdlayer.ReleaseRecordsHook',
    ]
    assert [hook['type'] for hook in cfg.custom_hooks] == expected
    assert "custom_hooks.1 = {'type': 'mmkdlayer.PreemptionHook'} is added" in changes
    again, changes = completed(custom_hooks=cfg.custom_hooks, model=dict(distiller=dict()))
    assert [hook['type'] for hook in again.custom_hooks] == expected
    assert not [change for change in changes if 'hook' in change]
    assert fitting_hook(cfg).folder('work') == 'shared'
    assert fitting_hook(Config({})).folder('work') == str(Path('work') / 'decisions')


def test_hooks_of_a_training_without_kd_layers() -> None:
    cfg, _ = completed()
    assert [hook['type'] for hook in cfg.custom_hooks] == ['mmkdlayer.PreemptionHook']


def test_loop_by_epochs_becomes_resumable() -> None:
    cfg, changes = completed()
    assert cfg.train_cfg == dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=3)
    assert 'train_cfg.by_epoch is removed (it was True)' in changes
    assert "train_cfg.type = 'mmkdlayer.ResumableEpochLoop' is added" in changes
    for own in (dict(by_epoch=False, max_iters=3), dict(type='MyLoop')):
        cfg, changes = completed(train_cfg=own)
        assert cfg.train_cfg == own
        assert not [change for change in changes if 'train_cfg' in change]


def test_a_config_that_is_complete_stays_as_it_is() -> None:
    cfg, _ = completed()
    _, changes = completed(**cfg.to_dict())
    assert changes == []


def test_options() -> None:
    options = dict(work_dir='here', resume='epoch_1.pth', auto_scale_lr=True, amp=True)
    entries = dict(
        work_dir='there',
        auto_scale_lr=dict(base_batch_size=64),
        optim_wrapper=dict(type='OptimWrapper'),
    )
    cfg, changes = completed(options, **entries)
    assert (cfg.work_dir, cfg.resume, cfg.load_from) == ('here', True, 'epoch_1.pth')
    assert cfg.auto_scale_lr.enable and 'Amp' in cfg.optim_wrapper.type
    assert "work_dir = 'here' (it was 'there')" in changes
    assert any(change.startswith('optim_wrapper.type = ') for change in changes)
    cfg, _ = completed(dict(resume='auto'), load_from='other.pth')
    assert (cfg.work_dir, cfg.resume, cfg.load_from) == ('work_dirs/pair', True, None)
    with pytest.raises(ConfigError, match='--auto-scale-lr expects'):
        completed(options, optim_wrapper=dict())
