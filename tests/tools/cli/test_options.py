"""Reading a config, and finding a hook in it, however types are given."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from cli.options import find_hook, load_config
from mmkdlayer.engine import PreemptionHook
from mmkdlayer.errors import ConfigError


def load(folder: Path, text: str) -> Config:
    file = folder / 'given.py'
    file.write_text(text)
    return load_config(Namespace(config=str(file), data_root=None, cfg_options=None))


@pytest.mark.parametrize('text', ['default_scope = None', "default_scope = 'mmpretrain'", 'a = 1'])
def test_default_scope_may_be_none(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)
    assert DefaultScope.get_current_instance().scope_name == 'mmpretrain'


def test_an_instance_in_a_pure_python_config(tmp_path: Path) -> None:
    text = 'from mmkdlayer.models import CentroidDecision\n\ndecision = CentroidDecision(8)\n'
    with pytest.raises(ConfigError, match=r'given.py, line 3: .*Write dict\(type=CLASS'):
        load(tmp_path, text)


def test_a_config_with_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'given.py.* can not be read \(NameError: .*nowhere'):
        load(tmp_path, '_base_ = []\na = nowhere\n')


def test_another_file_in_the_place_of_a_config(tmp_path: Path) -> None:
    (tmp_path / 'pair.py').write_text('_base_ = []\n')
    (tmp_path / 'epoch_1.pth').touch()
    for name, words in [
        ('paire.py', 'no such file. Did you mean .*/pair.py'),
        ('epoch_1.pth', 'ends in .py, .*The config comes before the checkpoint'),
        ('x.txt', 'no such file.$'),
    ]:
        with pytest.raises(ConfigError, match=words):
            load_config(Namespace(config=str(tmp_path / name), data_root=None, cfg_options=None))


@pytest.mark.parametrize(
    'hook',
    [
        dict(type=PreemptionHook),
        dict(type='PreemptionHook'),
        dict(type='mmkdlayer.PreemptionHook'),
        dict(type='mmkdlayer.engine.hooks.PreemptionHook'),
        PreemptionHook(),
    ],
    ids=['class', 'name', 'scope', 'module', 'instance'],
)
def test_a_hook_is_found(hook: Any) -> None:
    cfg = Config(dict(custom_hooks=[dict(type='EMAHook'), hook]))
    assert find_hook(cfg, 'mmkdlayer.PreemptionHook') == hook
    assert find_hook(cfg, 'mmkdlayer.FitDecisionsHook') is None
