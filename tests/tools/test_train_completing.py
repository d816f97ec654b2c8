"""What the training command adds to a config, and what it says about it."""

from __future__ import annotations

from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from command_line import load_tool
from mmengine.config import Config

from mmkdlayer.engine import FitDecisionsHook, PreemptionHook
from mmkdlayer.errors import ConfigError
from mmkdlayer.type_names import type_name

train, fitting_hook = load_tool('train'), load_tool('fit_decisions').fitting_hook

EPOCHS = dict(by_epoch=True, max_epochs=3)


def completed(options: dict | None = None, **entries: object) -> tuple[Config, list[str]]:
    """A config after the command completed it, and the lines about that."""
    cfg = Config(dict(dict(train_cfg=dict(EPOCHS), model=dict(type='ImageClassifier')), **entries))
    given = cfg.to_dict()
    defaults = dict(launcher='none', work_dir=None, amp=False, auto_scale_lr=False, resume=None)
    defaults['init_from'] = None
    train.complete_config(
        cfg, Namespace(config='folder/pair.py', **{**defaults, **(options or {})})
    )
    return cfg, list(train.describe_changes(given, cfg.to_dict()))


def test_hooks_are_added_once() -> None:
    hooks = [dict(type='mmkdlayer.FitDecisionsHook', out_dir='shared')]
    cfg, changes = completed(custom_hooks=hooks, model=dict(distiller=dict()))
    expected = [
        'mmkdlayer.FitDecisionsHook',
        'mmkdlayer.CheckDataHook',
        'mmkdlayer.CheckFiniteHook',
        'mmkdlayer.PreemptionHook',
        'mmkdlayer.CheckWeightsHook',
        'mmkdlayer.ReleaseRecordsHook',
    ]
    assert [hook['type'] for hook in cfg.custom_hooks] == expected
    assert "custom_hooks.3 = {'type': 'mmkdlayer.PreemptionHook'} is added" in changes
    again, changes = completed(custom_hooks=cfg.custom_hooks, model=dict(distiller=dict()))
    assert [hook['type'] for hook in again.custom_hooks] == expected
    assert not [change for change in changes if 'hook' in change]
    assert fitting_hook(cfg).folder('work') == 'shared'
    assert fitting_hook(Config({})).folder('work') == str(Path('work') / 'decisions')


def test_hooks_of_a_training_without_kd_layers() -> None:
    cfg, _ = completed()
    hooks = [hook['type'] for hook in cfg.custom_hooks]
    assert hooks == [
        'mmkdlayer.CheckDataHook',
        'mmkdlayer.CheckFiniteHook',
        'mmkdlayer.PreemptionHook',
    ]


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
    assert cfg.auto_scale_lr.enable
    assert cfg.optim_wrapper.type in ('AmpOptimWrapper', 'mmkdlayer.BFloat16OptimWrapper')
    assert "work_dir = 'here' (it was 'there')" in changes
    assert any(change.startswith('optim_wrapper.type = ') for change in changes)
    cfg, _ = completed(dict(resume='auto'), load_from='other.pth')
    assert (cfg.work_dir, cfg.resume, cfg.load_from) == ('work_dirs/pair', True, None)
    with pytest.raises(ConfigError, match='--auto-scale-lr expects'):
        completed(options, optim_wrapper=dict())


def test_hooks_given_by_class_are_not_added_again() -> None:
    own = [dict(type=FitDecisionsHook, out_dir='shared'), dict(type=PreemptionHook, signals=[])]
    cfg, _ = completed(custom_hooks=own, model=dict(distiller=dict()))
    assert [type_name(hook['type']) for hook in cfg.custom_hooks] == [
        'FitDecisionsHook',
        'PreemptionHook',
        'CheckDataHook',
        'CheckFiniteHook',
        'CheckWeightsHook',
        'ReleaseRecordsHook',
    ]
    assert fitting_hook(cfg).folder('work') == 'shared'
    instance = FitDecisionsHook(out_dir='here')
    assert fitting_hook(Config(dict(custom_hooks=[instance]))).folder('work') == 'here'


def test_mixed_precision_is_chosen() -> None:
    cfg, changes = completed(dict(amp='bfloat16'), optim_wrapper=dict(type='OptimWrapper'))
    assert cfg.optim_wrapper.type == 'mmkdlayer.BFloat16OptimWrapper'
    assert (
        "optim_wrapper.type = 'mmkdlayer.BFloat16OptimWrapper' (it was 'OptimWrapper')" in changes
    )


@pytest.mark.parametrize(
    ('line', 'amp'),
    [
        (['pair.py'], None),
        (['pair.py', '--amp'], True),
        (['--amp', 'pair.py'], True),
        (['pair.py', '--amp', '--resume', 'epoch_1.pth'], True),
        (['pair.py', '--amp', 'bfloat16'], 'bfloat16'),
        (['--amp', 'bfloat16', 'pair.py'], 'bfloat16'),
        (['--amp=float16', 'pair.py'], 'float16'),
    ],
)
def test_mixed_precision_on_the_command_line(
    line: list[str], amp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('sys.argv', ['train.py', *line])
    args = train.parse_args()
    assert (args.config, args.amp) == ('pair.py', amp)


def test_mixed_precision_of_an_unknown_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr('sys.argv', ['train.py', 'pair.py', '--amp', 'fp16'])
    with pytest.raises(SystemExit, match='2'):
        train.parse_args()
    assert 'argument --amp: expected float16 or bfloat16, but got fp16' in capsys.readouterr().err


def test_weights_to_begin_with_by_option_and_key() -> None:
    option = dict(init_from='first.pth')
    for options, entries in ((option, {}), ({}, option), (option, dict(init_from='other.pth'))):
        cfg, _ = completed(options, **entries)
        hook = dict(type='mmkdlayer.InitFromHook', checkpoint='first.pth')
        assert cfg.init_from == 'first.pth' and cfg.custom_hooks[-1] == hook
        again, changes = completed(**cfg.to_dict())
        assert again.custom_hooks == cfg.custom_hooks and not changes[1:]
    with pytest.raises(ConfigError, match='init_from=first.pth and load_from=b.pth are both given'):
        completed(option, load_from='b.pth')
    completed(option, load_from='b.pth', resume=True)


@pytest.mark.parametrize(
    ('options', 'refused'),
    [
        *((False, False), (dict(backend='eager'), False), (dict(disable=True), False)),
        *((True, True), (dict(mode='default'), True)),
    ],
)
def test_compile_without_a_compiler(
    options: Any, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(train.shutil, 'which', lambda name: None)
    with pytest.raises(ConfigError, match=r'C\+\+ compiler') if refused else nullcontext():
        train.check_compile(Config(dict(compile=options)))
