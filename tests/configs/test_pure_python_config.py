"""The pure-Python config: the same training as the plain one of the pair, through the same commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run, write_images
from mmengine.config import Config
from mmengine.registry import MODELS

from configuring import PairOptions, make_config
from mmkdlayer.type_names import type_name

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')

CONFIGS = Path(__file__).parents[2] / 'configs'
PAIR = 'resnet56_resnet20_cifar100.py'
SMALL = """
from made_up_data import MadeUpCIFAR100
from mmengine.config import read_base
from mmengine.model import PretrainedInit
from mmengine.optim import OptimWrapper

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

default_scope = None
model.teacher.update(init_cfg=dict(type=PretrainedInit, checkpoint='teacher.pth'))
optim_wrapper.update(type=OptimWrapper)
custom_hooks[1].update(out_dir='shared')
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


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config made small, in a folder with weights of its teacher, which is the working directory."""
    shutil.copytree(CONFIGS / 'pure_python', tmp_path / 'configs')
    path = tmp_path / 'configs' / 'small.py'
    path.write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    teacher = MODELS.build(Config.fromfile(path).model.teacher)
    torch.save(dict(state_dict=teacher.state_dict()), 'teacher.pth')
    return path


def test_trains_tests_and_exports(config: Path, tmp_path: Path) -> None:
    work, exported = tmp_path / 'work', tmp_path / 'exported'
    log = run('train.py', [str(config), '--work-dir', str(work), '--amp'])
    assert 'Epoch(train) [1][2/2]' in log
    assert 'UNTRAINED' not in log  # its weights are those of an init_cfg
    assert sorted(file.stem for file in (tmp_path / 'shared').glob('*.safetensors')) == [
        'inter',
        'penult',
    ]
    cfg = Config.fromfile(work / 'small.py')
    listed = [type_name(hook.type) for hook in cfg.custom_hooks]
    assert len(listed) == len(set(listed)) == 7
    assert type_name(cfg.optim_wrapper.type) in ('AmpOptimWrapper', 'BFloat16OptimWrapper')

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


def test_makes_the_config_of_a_pair(config: Path, tmp_path: Path) -> None:
    student = config.with_name('student.py')
    student.write_text(SMALL + 'model = model.architecture\n')
    data, out = write_images(tmp_path / 'data'), tmp_path / 'made.py'
    options = dict(data=str(data), out=str(out), image_size=16, letkd1=True)
    pair = make_config(PairOptions(str(student), str(student), **options))
    assert pair.student.normalisation['to_rgb'] is True  # found by the names of its transforms
    made = Config.fromfile(out)
    assert type_name(made.model.architecture.backbone.type) == 'CifarResNet'
    assert made.model.architecture.head.num_classes == 3
