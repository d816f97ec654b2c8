"""The pure-Python config: the same training as the plain one of the pair, through the same commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from mmengine.config import Config

from mmkdlayer.type_names import type_name

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

CONFIGS = Path(__file__).parents[2] / 'configs'
PAIR = 'resnet56_resnet20_cifar100.py'
SMALL = """
from made_up_data import MadeUpCIFAR100
from mmengine.config import read_base

with read_base():
    from .resnet56_resnet20_cifar100 import *

for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(batch_size=6, num_workers=0, persistent_workers=False)
    loader.dataset.update(type=MadeUpCIFAR100, data_root='.')
for network in (model.architecture, model.teacher):
    network.backbone.update(depth=8)
    network.head.update(num_classes=3)
model.update(teacher_ckpt=None)
model.distiller.kd_layers.inter.decision.update(num_classes=3, num_subclasses=2, num_components=2)
model.distiller.kd_layers.penult.decision.update(num_centroids=8)
train_cfg.update(max_epochs=1)
for evaluator in (val_evaluator, test_evaluator):
    evaluator.update(topk=(1,))
"""


def with_names(value: Any) -> Any:
    """A config with the bare name of each type."""
    if isinstance(value, dict):
        return {
            key: type_name(item) if key == 'type' else with_names(item)
            for key, item in value.items()
            if key != '_scope_'
        }
    if isinstance(value, (list, tuple)):
        return [with_names(item) for item in value]
    return value


def test_is_the_training_of_the_plain_config() -> None:
    plain = with_names(Config.fromfile(CONFIGS / 'kdlayer' / PAIR).to_dict())
    pure = with_names(Config.fromfile(CONFIGS / 'pure_python' / PAIR).to_dict())
    for variable in ('dataset_type', 'train_pipeline', 'test_pipeline', 'vis_backends'):
        del plain[variable]
    assert {key: pure[key] for key in plain} == plain


def test_trains_tests_and_exports(tmp_path: Path) -> None:
    shutil.copytree(CONFIGS / 'pure_python', tmp_path / 'configs')
    config = tmp_path / 'configs' / 'small.py'
    config.write_text(SMALL)
    work, exported = tmp_path / 'work', tmp_path / 'exported'
    log = run('train.py', [str(config), '--work-dir', str(work)])
    assert 'Epoch(train) [1][2/2]' in log
    hooks = Config.fromfile(work / 'small.py').custom_hooks
    listed = [type_name(hook.type) for hook in hooks]
    assert len(listed) == len(set(listed)) == 6

    run('export_student.py', [str(config), str(work / 'epoch_1.pth'), '--out', str(exported)])
    metrics = []
    for name, pair in (
        ('training', (config, work / 'epoch_1.pth')),
        ('exported', (exported / 'student.py', exported / 'student.pth')),
    ):
        out = tmp_path / f'{name}.json'
        run('test.py', [*map(str, pair), '--work-dir', str(work / name), '--out', str(out)])
        metrics.append(json.loads(out.read_text())['accuracy/top1'])
    assert metrics[0] == metrics[1]
