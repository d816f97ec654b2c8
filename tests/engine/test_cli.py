"""What the commands check before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmkdlayer.engine import cli
from mmkdlayer.errors import DataError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def test_data_that_can_download_itself_needs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmpretrain')
    loaders = ('train_dataloader', 'val_dataloader')
    cli.check_data_roots(
        Config.fromfile(CONFIGS / 'kdlayer' / 'resnet56_resnet20_cifar100.py'), loaders
    )
    with pytest.raises(DataError, match='data/imagenet.*--data-root'):
        cli.check_data_roots(
            Config.fromfile(CONFIGS / 'kdlayer' / 'resnet34_resnet18_in1k.py'), loaders
        )


def test_needed_hooks_are_added_once() -> None:
    hooks = [dict(type='mmkdlayer.FitDecisionsHook', out_dir='shared')]
    cfg = Config(dict(custom_hooks=hooks, model=dict(distiller=dict())))
    cli.add_needed_hooks(cfg)
    cli.add_needed_hooks(cfg)
    assert [hook['type'] for hook in cfg.custom_hooks] == [
        'mmkdlayer.FitDecisionsHook',
        'mmkdlayer.PreemptionHook',
        'mmkdlayer.CheckWeightsHook',
        'mmkdlayer.ReleaseRecordsHook',
    ]
    assert cli.fitting_hook(cfg).folder('work') == 'shared'
    assert cli.fitting_hook(Config({})).folder('work') == str(Path('work') / 'decisions')


def test_hooks_of_a_training_without_kd_layers() -> None:
    cfg = Config(dict(model=dict(type='ImageClassifier')))
    cli.add_needed_hooks(cfg)
    assert [hook['type'] for hook in cfg.custom_hooks] == ['mmkdlayer.PreemptionHook']


def test_loop_by_epochs_becomes_resumable() -> None:
    cfg = Config(dict(train_cfg=dict(by_epoch=True, max_epochs=3)))
    cli.use_resumable_loop(cfg)
    assert cfg.train_cfg == dict(type='mmkdlayer.ResumableEpochLoop', max_epochs=3)
    for own in (dict(by_epoch=False, max_iters=3), dict(type='MyLoop')):
        cfg = Config(dict(train_cfg=own))
        cli.use_resumable_loop(cfg)
        assert cfg.train_cfg == own
