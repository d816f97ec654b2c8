"""Building what a config describes: which runners there are, and what is said of wrong arguments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS, RUNNERS
from mmengine.runner import FlexibleRunner, Runner
from torch import nn
from torch.optim import SGD

from cli import build_runner, building
from cli.building import explain_build_error
from mmkdlayer.errors import ConfigError


@RUNNERS.register_module()
class OwnRunner(Runner):
    """Is built without doing anything."""

    @classmethod
    def from_cfg(cls, cfg: Any) -> Any:
        return cls


@pytest.mark.parametrize('kind', ['OwnRunner', OwnRunner])
def test_a_subclass_of_the_runner_is_built(kind: Any) -> None:
    assert build_runner(Config(dict(runner_type=kind))) is OwnRunner


@pytest.mark.parametrize(
    'entries',
    [
        dict(runner_type='FlexibleRunner'),
        dict(runner_type=FlexibleRunner),
        dict(runner_type='NoSuchRunner'),
        dict(strategy=dict(type='DDPStrategy')),
    ],
)
def test_other_runners_are_refused(entries: dict) -> None:
    with pytest.raises(ConfigError, match=r'runner_type=\w+, strategy=.*: expected mmengine'):
        build_runner(Config(entries))


@pytest.mark.parametrize('level', ['INFO', 'DEBUG'])
def test_the_list_of_hooks_is_for_those_who_look_for_it(level: str, tmp_path: Path) -> None:
    work, model = str(tmp_path), dict(type='BaseDataPreprocessor')
    entries = dict(model=model, work_dir=work, log_level=level, experiment_name=level)
    runner = build_runner(Config(entries))
    (log,) = Path(work).rglob('*.log')
    assert ('RuntimeInfoHook' in log.read_text().partition('Hooks will')[2]) == (level == 'DEBUG')
    assert 'RuntimeInfoHook' in runner.get_hooks_info()


@pytest.mark.parametrize(
    ('loader', 'words'),
    [
        (dict(batch_size=0), 'val_dataloader: The data loader, .*: batch_size should be'),
        (
            dict(batch_size=1, num_worker=2),
            'val_dataloader: The data loader has no argument "num_w',
        ),
        (dict(batch_size=1, sampler=dict(type='No')), 'val_dataloader: .* type="No"'),
    ],
)
def test_errors_of_a_data_loader_say_which(loader: dict, words: str, tmp_path: Path) -> None:
    model = dict(type='BaseDataPreprocessor')
    loader = dict(dict(dataset=[1, 2], sampler=dict(type='DefaultSampler')), **loader)
    cfg = dict(model=model, work_dir=str(tmp_path), val_dataloader=loader, val_cfg={})
    runner = build_runner(Config(dict(cfg, val_evaluator=[])))
    with pytest.raises(Exception) as info:  # noqa: PT011  (of any kind)
        runner.val()
    assert re.search(words, explain_build_error(info.value) or '')


def test_an_unknown_schedule() -> None:
    registry, schedule = PARAM_SCHEDULERS, dict(type='No', convert_to_iter_based=True)
    optimizer = SGD([torch.zeros(1)], lr=0.1)
    with pytest.raises(KeyError) as info:
        registry.build(schedule, default_args=dict(optimizer=optimizer, epoch_length=1))
    assert 'names type="No", which is not known' in str(explain_build_error(info.value))


def explained(registry: Any, cfg: Any) -> str:
    """What is said of the error of building it."""
    with pytest.raises(Exception) as info:  # noqa: PT011  (of any kind)
        registry.build(cfg)
    text = explain_build_error(info.value)
    assert text is not None, info.value
    return text


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(teacher_ckp='x.pth'), ['no argument "teacher_ckp"', 'teacher_ckpt']),
        (dict(kd_layers={}), ['SingleTeacherDistill has no', 'declared in model.distiller']),
        (
            dict(distiller=dict(type='mmrazor.ConfigurableDistiller', kd_layers={})),
            ['ConfigurableDistiller has no argument "kd_layers"', 'mmkdlayer.KDLayerDistiller'],
        ),
        (dict(architecture=None), ['SingleTeacherDistill', 'architecture should be', 'NoneType']),
        (dict(teacher=None), ['SingleTeacherDistill', 'teacher should be', 'NoneType']),
        (dict(type='mmrazor.SingleTeacherDistil'), ['not known', 'mmrazor.SingleTeacherDistill']),
    ],
)
def test_wrong_arguments_of_an_algorithm(
    changes: dict, words: list[str], distillation_config: Any
) -> None:
    text = explained(MODELS, distillation_config(**changes))
    for word in words:
        assert word in text


def test_wrong_arguments_of_a_part(classifier_config: Any, kd_layer_configs: Any) -> None:
    network = classifier_config()
    network['backbone']['depht'] = 18
    assert 'ResNet_CIFAR has no argument "depht"' in explained(MODELS, network)
    assert 'Near matches: depth' in explained(MODELS, network)
    network = classifier_config(kd_layers=kd_layer_configs())
    assert 'mmkdlayer.KDLayerClassifier' in explained(MODELS, network)
    assert 'lacks "type"; it has interval' in explained(HOOKS, dict(interval=1))
    assert "is 'EMAHook', but must be a dict" in explained(HOOKS, 'EMAHook')
    near = explained(HOOKS, dict(type='mmkdlayer.PremptionHook'))
    assert 'mmkdlayer.PreemptionHook' in near


def test_wrong_key_of_a_data_loader() -> None:
    loader = dict(batch_sise=2, dataset=[1, 2], sampler=dict(type='DefaultSampler'), num_workers=0)
    with pytest.raises(TypeError) as info:
        Runner.build_dataloader(Config(dict(loader=loader)).loader)
    assert 'data loader has no argument "batch_sise"' in (explain_build_error(info.value) or '')


def test_optimisers_that_can_not_be_built() -> None:
    network = nn.Linear(1, 1)
    for changes, words in [
        (dict(type='Adamw'), ['type="Adamw", which is not known', 'AdamW']),
        (dict(type='SGD', lr='abc'), ['SGD, which the config names, can not be built', "lr='abc'"]),
    ]:
        with pytest.raises(TypeError) as info:
            build_optim_wrapper(network, Config(dict(a=dict(optimizer=changes))).a)
        for word in words:
            assert word in (explain_build_error(info.value) or '')


def test_other_errors_are_not_explained() -> None:
    for error in (TypeError("f() got an unexpected keyword argument 'x'"), RuntimeError('shapes')):
        assert explain_build_error(error) is None


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_loaders_are_completed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, 'get_device', lambda: device)
    stated = dict(dataset=dict(), collate_fn=dict(type='default_collate'), pin_memory=False)
    cfg = Config(
        dict(train_dataloader=dict(dataset=dict()), val_dataloader=stated, test_dataloader=None)
    )
    building.complete_loaders(cfg)
    assert cfg.val_dataloader == stated
    assert cfg.train_dataloader.pop('pin_memory', False) == (device == 'cuda')
    assert cfg.train_dataloader.collate_fn == dict(type='mmkdlayer.stack_images')
