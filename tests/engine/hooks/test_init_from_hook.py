"""Trainings that begin with what fits of other weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from seeded_training import make_config

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.errors import CheckpointError
from mmkdlayer.registry import MODELS


@HOOKS.register_module()
class KeepStartHook(Hook):
    """Keeps the weights that the first iteration gets."""

    def before_train_epoch(self, runner: Runner) -> None:
        state = runner.model.state_dict()
        KeepStartHook.start = {key: value.clone() for key, value in state.items()}


@pytest.fixture
def begin(distillation_config, tmp_path):
    """Train with ``init_from``; the weights at the start, and the log."""

    def call(model: dict, path: Any, name: str, **changes: Any) -> tuple[dict, str]:
        cfg = make_config(model, tmp_path / name, log_level='INFO', **changes)
        cfg.experiment_name = f'{tmp_path.name}-{name}'
        cfg.custom_hooks += [
            dict(type='mmkdlayer.InitFromHook', checkpoint=str(path)),
            dict(type='KeepStartHook'),
        ]
        Runner.from_cfg(Config(cfg.to_dict())).train()
        (log,) = (tmp_path / name).glob('*/*.log')
        return KeepStartHook.start, log.read_text()

    return call


def test_other_numbers_of_classes_and_templates(begin, train, distillation_config, tmp_path):
    train('first')
    path = tmp_path / 'first' / 'epoch_1.pth'
    before = read_checkpoint(path)['state_dict']
    before['architecture.unknown'] = torch.ones(1)
    head = before['architecture.head.fc.weight']
    before['architecture.head.fc.weight'] = torch.cat([head, head])  # of six classes
    torch.save(dict(state_dict=before), path)
    model = distillation_config()
    model['distiller']['kd_layers']['penult']['decision']['num_centroids'] = 6
    start, log = begin(model, path, 'second')
    backbone = [key for key in before if '.backbone.' in key and 'num_batches' not in key]
    assert len(backbone) > 30 and all(torch.equal(start[key], before[key]) for key in backbone)
    assert torch.equal(start['architecture.head.fc.bias'], before['architecture.head.fc.bias'])
    assert start['architecture.head.fc.weight'].shape == head.shape
    (line,) = (line for line in log.splitlines() if 'Training begins with weights' in line)
    assert 'entries are loaded; the rest stays as it is initialised, ' in line
    assert 'of another shape (head.fc.weight is (6, 16) there and (3, 16) in the model' in line
    assert '(5, 16, 1, 1) there and (6, 16, 1, 1)' in line and '1 not used (unknown)' in line


def test_a_classifier_begins_with_published_weights(begin, classifier_config, tmp_path):
    """Fine-tuning a teacher: of a file for 1000 classes all but the head is loaded."""
    published = classifier_config()
    published['head']['num_classes'] = 1000
    state = MODELS.build(published).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'published.pth')
    options = dict(custom_hooks=[dict(type='mmkdlayer.CheckWeightsHook')])
    start, log = begin(classifier_config(), tmp_path / 'published.pth', 'teacher', **options)
    assert torch.equal(start['backbone.conv1.weight'], state['backbone.conv1.weight'])
    assert start['head.fc.weight'].shape == (3, 16)
    assert '2 of another shape (head.fc.weight is (1000, 16) there' in log


def test_nothing_that_fits(begin, distillation_config, tmp_path):
    torch.save({'layer1.weight': torch.ones(1)}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'other\.pth: .*but nothing fits: .*missing'):
        begin(distillation_config(), tmp_path / 'other.pth', 'work')


def test_a_resumed_training_has_its_own_weights(begin, train, distillation_config, tmp_path):
    train('work')
    path = tmp_path / 'work' / 'epoch_1.pth'
    own = read_checkpoint(path)['state_dict']
    torch.save({'backbone.conv1.weight': torch.zeros(4, 3, 3, 3)}, tmp_path / 'zeros.pth')
    options = dict(resume=True, load_from=str(path), train_cfg=dict(by_epoch=True, max_epochs=2))
    start, log = begin(distillation_config(), tmp_path / 'zeros.pth', 'more', **options)
    key = 'architecture.backbone.conv1.weight'
    assert torch.equal(start[key], own[key]) and 'zeros.pth is not read' in log
