"""Two teachers in the place of one, each deciding for a KD layer of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from seeded_training import make_config
from torch import nn

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.engine import prepare_decisions
from mmkdlayer.errors import ConfigError, DecisionFileError
from mmkdlayer.models.decisions import read_decision_file

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


@pytest.fixture(autouse=True)
def scope(own_default_scope: None) -> None:
    init_default_scope('mmpretrain')


@pytest.fixture
def two_teachers(
    distillation_config: Callable[..., dict], classifier_config: Callable[..., dict]
) -> Callable[..., dict]:
    """``inter`` learns from teacher ``wide``, ``penult`` from teacher ``narrow``."""

    def make(**group: Any) -> dict:
        config = distillation_config()
        config['teacher'] = dict(
            type='mmkdlayer.TeacherGroup',
            teachers=dict(wide=classifier_config(6), narrow=classifier_config(3)),
            **group,
        )
        layers = config['distiller']['kd_layers']
        layers['inter']['teacher'] = 'wide.backbone.layer3.0'
        layers['penult']['teacher'] = 'narrow.backbone.layer3'
        return config

    return make


def build(config: dict, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = MODELS.build(config)
    model.init_weights()
    return model


def trained(config: dict, work: Path, **changes: Any) -> Runner:
    cfg = make_config(config, work, **changes)
    cfg.experiment_name = f'{work.parent.name}-{work.name}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_each_layer_is_fitted_on_its_teacher_and_trained(
    two_teachers: Callable[..., dict], tmp_path: Path
) -> None:
    runner = trained(two_teachers(), tmp_path / 'work')
    losses = runner.model.distiller.distill_losses
    assert losses['loss_inter'].decision.feature_channels == 24
    assert losses['loss_penult'].decision.feature_channels == 12
    found = {
        name: read_decision_file(tmp_path / f'work/decisions/{name}.safetensors').provenance
        for name in ('inter', 'penult')
    }
    assert found['inter']['layer']['source'] == 'backbone.layer3.0'
    assert found['penult']['layer']['source'] == 'backbone.layer3'
    assert found['inter']['teacher']['weights'] != found['penult']['teacher']['weights']
    state = read_checkpoint(tmp_path / 'work/epoch_1.pth')['state_dict']
    assert {key.split('.')[0] for key in state} == {'architecture'}


def test_decision_equals_that_of_its_teacher_alone(
    two_teachers: Callable[..., dict],
    distillation_config: Callable[..., dict],
    tmp_path: Path,
) -> None:
    pair = build(two_teachers())
    alone = build(distillation_config())
    alone.teacher.load_state_dict(pair.teacher.wide.state_dict())
    cfg = make_config(two_teachers(), tmp_path / 'pair')
    prepare_decisions(pair, cfg, tmp_path / 'pair')
    prepare_decisions(alone, make_config(distillation_config(), tmp_path), tmp_path / 'alone')
    first, second = (m.distiller.distill_losses['loss_inter'].decision for m in (pair, alone))
    torch.testing.assert_close(first.centers, second.centers)
    # What the wide teacher decided alone is used for it in the pair, and refused for the other.
    path = tmp_path / 'alone' / 'inter.safetensors'
    written = path.stat().st_mtime_ns
    again = build(two_teachers())
    prepare_decisions(again, cfg, tmp_path / 'alone')
    assert path.stat().st_mtime_ns == written
    assert torch.equal(
        again.distiller.distill_losses['loss_inter'].decision.centers, second.centers
    )
    wrong = two_teachers()
    wrong['distiller']['kd_layers']['inter']['teacher'] = 'narrow.backbone.layer3.0'
    wrong['distiller']['kd_layers']['inter']['decision']['file'] = str(path)
    with pytest.raises((DecisionFileError, ConfigError), match='channels'):
        prepare_decisions(build(wrong), cfg, tmp_path / 'none')


def test_step_reads_both(
    two_teachers: Callable[..., dict], make_batch: Callable[..., tuple], tmp_path: Path
) -> None:
    model = build(two_teachers())
    prepare_decisions(model, make_config(two_teachers(), tmp_path), tmp_path)
    model.train()
    assert not any(module.training for module in model.teacher.modules())
    batch = make_batch()
    losses = model(*batch, mode='loss')
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.teacher.narrow.backbone.conv1.weight.mul_(-1)
    others = changed(*batch, mode='loss')
    assert torch.equal(losses['distill.loss_inter'], others['distill.loss_inter'])
    assert not torch.equal(losses['distill.loss_penult'], others['distill.loss_penult'])
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_checkpoints_of_each(
    two_teachers: Callable[..., dict], classifier_config: Callable[..., dict], tmp_path: Path
) -> None:
    networks = {name: build(classifier_config(c)) for name, c in (('wide', 6), ('narrow', 3))}
    paths = {}
    for name, network in networks.items():
        paths[name] = str(tmp_path / f'{name}.pth')
        torch.save(dict(state_dict=network.state_dict()), paths[name])
    model = build(two_teachers(checkpoints=paths), seed=5)
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(getattr(model.teacher, name).state_dict()[key], value)
    swapped = dict(wide=paths['narrow'], narrow=paths['wide'])
    with pytest.raises(Exception, match='does not fit'):
        trained(two_teachers(checkpoints=swapped), tmp_path / 'swapped')


def test_teacher_without_checkpoint_is_warned_of(
    two_teachers: Callable[..., dict], tmp_path: Path
) -> None:
    trained(two_teachers(), tmp_path / 'work')
    (log,) = (tmp_path / 'work').glob('*/*.log')
    assert 'THE TEACHER "narrow" IS UNTRAINED' in log.read_text()


def test_modes(two_teachers: Callable[..., dict], make_batch: Callable[..., tuple]) -> None:
    group = build(two_teachers()).teacher
    inputs, samples = make_batch()
    outputs = group(inputs)
    for name, teacher in group.members.items():
        torch.testing.assert_close(outputs[name], teacher(inputs))
    assert set(group(inputs, samples, mode='loss')) == {'wide.loss', 'narrow.loss'}
    features = group.extract_feat(inputs)
    torch.testing.assert_close(features['wide'], group.wide.extract_feat(inputs))
    with pytest.raises(ConfigError, match='no one prediction'):
        group(inputs, samples, mode='predict')


@pytest.mark.parametrize(
    ('group', 'words'),
    [
        (dict(teachers={}), 'at least one teacher'),
        (dict(checkpoints=dict(other='x.pth')), r"checkpoints of \['other'\]"),
        (dict(teachers={'forward': {}}), "called 'forward'"),
        (dict(teachers={'a.b': {}}), "called 'a.b'"),
    ],
)
def test_wrong_groups(two_teachers: Callable[..., dict], group: dict, words: str) -> None:
    config = two_teachers()
    config['teacher'].update(group)
    with pytest.raises(ConfigError, match=words):
        MODELS.build(config)


def test_source_that_names_no_teacher(two_teachers: Callable[..., dict], tmp_path: Path) -> None:
    config = two_teachers()
    model = build(config)
    recorder = model.distiller.teacher_recorders.get_recorder('kd_layers.inter.teacher')
    recorder._source = 'backbone.layer3'
    with pytest.raises(ConfigError, match=r"teachers are \['wide', 'narrow'\]"):
        prepare_decisions(model, Config(dict(make_config(config, tmp_path))), tmp_path)
