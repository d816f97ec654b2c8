"""What the commands check before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

import cli
from mmkdlayer.errors import DataError

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


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
