"""Which weights a training may start from."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
import torch
from mmengine.runner import Runner
from seeded_training import make_config

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.engine.hooks.check_weights_hook import check_teacher_checkpoint
from mmkdlayer.errors import CheckpointError, ConfigError
from mmkdlayer.registry import MODELS


def build(config: dict) -> torch.nn.Module:
    import mmrazor.models  # noqa: F401

    return MODELS.build(config)


def test_resuming_another_network_is_refused(
    train: Callable[..., Runner], distillation_config: Callable[..., dict], tmp_path: Path
) -> None:
    train()
    cfg = make_config(distillation_config(student_channels=5), tmp_path / 'work', resume=True)
    cfg.experiment_name = f'{tmp_path.name}-other'
    with pytest.raises(ConfigError, match='does not fit this config'):
        Runner.from_cfg(cfg).train()


def test_given_teacher_checkpoint_must_fit(
    train: Callable[..., Runner], distillation_config: Callable[..., dict], tmp_path: Path
) -> None:
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict={'head.fc.bias': torch.zeros(1)}), path)
    with pytest.raises(CheckpointError, match=r'missing .*is \(1,\) there'):
        train(model=distillation_config(teacher_ckpt=str(path)))


def test_load_from_another_network_is_refused(
    train: Callable[..., Runner], distillation_config: Callable[..., dict], tmp_path: Path
) -> None:
    torch.save(dict(state_dict={'foo.weight': torch.zeros(1)}), tmp_path / 'foreign.pth')
    with pytest.raises(ConfigError, match='does not fit this config'):
        train(load_from=str(tmp_path / 'foreign.pth'))


def test_load_from_may_bring_a_part(train: Callable[..., Runner], tmp_path: Path) -> None:
    train('first')
    state = read_checkpoint(tmp_path / 'first' / 'epoch_1.pth')['state_dict']
    part = {key: value for key, value in state.items() if 'kd_layers' not in key}
    torch.save(dict(state_dict=part), tmp_path / 'part.pth')
    assert train('second', load_from=str(tmp_path / 'part.pth')).epoch == 1


def test_resuming_without_the_optimisers_state_is_warned_of(
    train: Callable[..., Runner], tmp_path: Path
) -> None:
    train('first')
    whole = tmp_path / 'first' / 'epoch_1.pth'
    content = read_checkpoint(whole)
    del content['optimizer']
    torch.save(content, tmp_path / 'weights.pth')
    for name, path, warnings in (('whole', whole, 0), ('part', tmp_path / 'weights.pth', 1)):
        train(name, load_from=str(path), resume=True)
        (log,) = (tmp_path / name).glob('*/*.log')
        assert log.read_text().count(f'{path} holds no state of the optimiser') == warnings


def test_resuming_averages_without_their_hook_is_warned_of(
    train: Callable[..., Runner], tmp_path: Path
) -> None:
    hooks = [dict(type='mmkdlayer.CheckWeightsHook'), dict(type='mmkdlayer.FitDecisionsHook')]
    averaging = [*hooks, dict(type='EMAHook')]
    train('first', custom_hooks=averaging)
    path = tmp_path / 'first' / 'epoch_1.pth'
    for name, chosen, warnings in (('with', averaging, 0), ('without', hooks, 1)):
        train(name, load_from=str(path), resume=True, custom_hooks=chosen)
        (log,) = (tmp_path / name).glob('*/*.log')
        assert log.read_text().count(f'The weights of {path} are averages') == warnings


def test_untrained_teacher_is_warned_of_before_and_after(
    train: Callable[..., Runner], distillation_config: Callable[..., dict], tmp_path: Path
) -> None:
    runner = train('random')
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=runner.model.teacher.state_dict()), path)
    train('trained', model=distillation_config(teacher_ckpt=str(path)))
    for name, warnings in (('random', 2), ('trained', 0)):
        (log,) = (tmp_path / name).glob('*/*.log')
        assert log.read_text().count('THE TEACHER IS UNTRAINED') == warnings


def test_what_is_wrong_with_a_teachers_checkpoint(distillation_config, tmp_path):
    config = distillation_config()['teacher']
    teacher, path = MODELS.build(config), str(tmp_path / 'teacher.pth')
    state = teacher.state_dict()

    def said(found: dict) -> str:
        torch.save(dict(state_dict=found), path)
        with pytest.raises(CheckpointError) as raised:
            check_teacher_checkpoint(teacher, path)
        return str(raised.value)

    config['head']['num_classes'] = 1000
    text = said(MODELS.build(config).state_dict())
    assert 'its head (head.fc) is for 1000 classes, and that of the config' in text
    assert f'--init-from {path}' in text and 'has 3. Fine-tune' in text
    assert 'convert_teacher' not in text
    text = said({f'architecture.{key}': value for key, value in state.items()})
    assert 'checkpoint of a distillation' in text and 'mmkdlayer export_student CONFIG' in text
    text = said({key: value for key, value in state.items() if 'layer3' not in key})
    assert 'network of this checkpoint as model.teacher' in text and 'convert' not in text
    assert 'convert_teacher' in said({'layer1.0.weight': torch.ones(1)})
    torch.save(state, path)
    check_teacher_checkpoint(teacher, path)


@pytest.mark.parametrize('part', ['', 'backbone'])
def test_a_teacher_that_its_init_cfg_loads(train, distillation_config, tmp_path, part):
    config = distillation_config()
    state = build(config).teacher.state_dict()
    path = tmp_path / 'teacher.pth'
    pretrained = dict(type='Pretrained', checkpoint=str(path))
    if part:
        config['teacher'][part]['init_cfg'] = dict(pretrained, prefix=part)
    else:
        config['teacher']['init_cfg'] = [pretrained]
    key = 'backbone.conv1.weight'
    if part:
        torch.save(dict(state_dict=state), path)
        runner = train('fits', model=config)
        assert torch.equal(runner.model.teacher.state_dict()[key], state[key])
    del state[key]
    torch.save(dict(state_dict=state), path)
    with pytest.raises(
        CheckpointError, match=r'teacher.pth does not fit .*1 missing .*conv1.weight'
    ):
        train('other', model=config)


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        (torch.nan, 'holds NaN'),
        (torch.inf, 'holds infinity'),
        (1j, 'is complex'),
        (None, 'is a tensor without values'),
    ],
)
@pytest.mark.parametrize('option', ['resume', 'load_from', 'teacher'])
def test_weights_that_are_no_numbers(train, distillation_config, tmp_path, value, words, option):
    model = build(distillation_config())
    teacher = option == 'teacher'
    state = (model.teacher if teacher else model).state_dict()
    key = next(key for key in state if key.endswith('backbone.conv1.weight'))
    shape = state[key].shape
    state[key] = torch.empty(shape, device='meta') if value is None else torch.full(shape, value)
    path = str(tmp_path / 'start.pth')
    torch.save(dict(state_dict=state, meta=dict(epoch=1, iter=3)), path)
    options = dict(model=distillation_config(teacher_ckpt=path)) if teacher else {}
    if not teacher:
        options = dict(load_from=path, resume=option == 'resume')
    with pytest.raises(CheckpointError, match=rf'start\.pth: .*{key} {words}'):
        train(**options)


@pytest.mark.parametrize('meta', [['epoch'], 'text'])
def test_resuming_with_meta_data_of_another_type(train, distillation_config, tmp_path, meta):
    state = build(distillation_config()).state_dict()
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'start.pth')
    with pytest.raises(CheckpointError, match=r"start\.pth: expected a dict as the entry 'meta'"):
        train(resume=True, load_from=str(tmp_path / 'start.pth'))


@pytest.mark.parametrize('content', [[1], {1: torch.ones(1)}, dict(state_dict='text')])
def test_teacher_checkpoints_of_other_types(train, distillation_config, tmp_path, content):
    torch.save(content, tmp_path / 'teacher.pth')
    with pytest.raises(CheckpointError, match=r'teacher\.pth: expected .* but found a'):
        train(model=distillation_config(teacher_ckpt=str(tmp_path / 'teacher.pth')))
