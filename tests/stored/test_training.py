"""What a config becomes that trains on stored decisions, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_distillation
from mmengine.config import Config
from seeded_training import make_config

from mmkdlayer.errors import ConfigError
from mmkdlayer.stored import take_out_store, use_store


def config(**changes: Any) -> Config:
    cfg = make_config(tiny_distillation(), Path('work'))
    cfg.merge_from_dict(changes)
    return cfg


def test_the_teacher_is_replaced_and_can_be_put_back() -> None:
    cfg = config(**{'model.teacher_ckpt': 'teacher.pth'})
    before = copy.deepcopy(cfg.to_dict())
    assert use_store(cfg, None) == ''
    assert cfg.to_dict() == before
    said = use_store(cfg, 'stored')
    assert 'stored in stored are used: no teacher is built' in said
    assert cfg.model.teacher.type == 'mmkdlayer.NoTeacher'
    assert cfg.model.teacher.teacher == before['model']['teacher']
    assert cfg.model.teacher_ckpt is None
    assert cfg.train_dataloader.dataset.store == 'stored'
    # What a training has written can be used again, on other decisions too.
    again = Config(cfg.to_dict())
    assert use_store(again) == said
    assert again.to_dict() == cfg.to_dict()
    use_store(again, 'others')
    assert again.train_dataloader.dataset.store == 'others'
    take_out_store(again, forget=True)
    assert again.to_dict() == before


def test_the_config_may_say_it() -> None:
    cfg = config()
    for layer in cfg.model.distiller.kd_layers.values():
        layer.decision.stored = 'stored'
    assert use_store(cfg)
    cfg.model.distiller.kd_layers.inter.decision.stored = None
    with pytest.raises(
        ConfigError, match='inter: None, penult: stored. Give all with --stored DIR'
    ):
        use_store(cfg)


MIXED = dict(augments=[dict(type='Mixup', alpha=0.2)])
RECORDED = dict(fc=dict(type='ModuleOutputs', source='head.fc'))


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'model.type': 'mmrazor.FpnTeacherDistill'}, 'model.type is FpnTeacherDistill'),
        ({'model.teacher_trainable': True}, 'teacher_trainable=True'),
        ({'model.distiller.type': 'mmrazor.ConfigurableDistiller'}, 'Use a KDLayerDistiller'),
        ({'model.distiller.distill_deliveries': RECORDED}, 'distill_deliveries hands over'),
        (
            {'model.data_preprocessor.batch_augments': MIXED},
            'model.data_preprocessor.batch_augments',
        ),
        (
            {'data_preprocessor': dict(batch_augments=MIXED)},
            'data_preprocessor.batch_augments mixes',
        ),
        ({'model.architecture.train_cfg': MIXED}, 'architecture.train_cfg.augments mixes'),
    ],
)
def test_what_needs_the_teacher_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match='in the place of a teacher, but') as caught:
        use_store(config(**changes), 'stored')
    assert words in str(caught.value)


def test_a_delivery_that_is_taken_out_is_none() -> None:
    assert use_store(config(**{'model.distiller.distill_deliveries': dict(inherited=None)}), 's')


def test_a_config_without_supervised_layers_is_refused() -> None:
    cfg = config(**{'model.distiller.kd_layers': {}})
    cfg.model.distiller.kd_layers = {}
    with pytest.raises(ConfigError, match='--stored stored: expected a config with KD layers'):
        use_store(cfg, 'stored')
