from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Callable

import pytest
from mmengine.config import Config
from mmengine.hub import get_config, get_model
from mmengine.registry import MODELS, TRANSFORMS, VISUALIZERS, DefaultScope
from mmengine.utils import get_installed_path, is_installed

from mmkdlayer.compat import enable
from mmkdlayer.compat.mmcls_alias import MMClsAlias

SMALL_CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=512),
)


@pytest.mark.parametrize(
    'name',
    [
        'mmcls',
        'mmcls.models',
        'mmcls.models.utils',
        'mmcls.models.backbones.base_backbone',
        'mmcls.models.losses.cross_entropy_loss',
        'mmcls.datasets.transforms.formatting',
        'mmcls.structures',
        'mmcls.evaluation',
        'mmcls.registry',
    ],
)
def test_alias_is_the_same_module_object(name: str) -> None:
    new_name = name.replace('mmcls', 'mmpretrain')
    module = importlib.import_module(name)
    assert module is importlib.import_module(new_name)
    assert module.__spec__.name == module.__name__ == new_name


def test_what_mmrazor_imports_is_there() -> None:
    from mmcls.datasets.transforms.formatting import PackClsInputs, to_tensor
    from mmcls.evaluation import Accuracy
    from mmcls.models import ClsHead, ImageClassifier, VisionTransformerClsHead
    from mmcls.models.heads import LinearClsHead
    from mmcls.models.losses.cross_entropy_loss import soft_cross_entropy
    from mmcls.models.utils import PatchEmbed, SELayer, channel_shuffle, make_divisible
    from mmcls.structures import ClsDataSample
    from mmpretrain.datasets import PackInputs
    from mmpretrain.structures import DataSample

    assert PackClsInputs is PackInputs
    assert ClsDataSample is DataSample
    assert callable(to_tensor) and callable(soft_cross_entropy)
    assert callable(channel_shuffle) and callable(make_divisible)
    for found in (Accuracy, ClsHead, ImageClassifier, VisionTransformerClsHead, LinearClsHead):
        assert found.__module__.startswith('mmpretrain.')
    assert SELayer.__module__.startswith('mmpretrain.') and PatchEmbed is not None


def test_unknown_submodule_is_missing_under_its_own_name() -> None:
    with pytest.raises(ModuleNotFoundError, match='mmcls.no_such_part'):
        importlib.import_module('mmcls.no_such_part')


def test_pickles_of_either_name_load() -> None:
    from mmcls.structures import ClsDataSample

    sample = ClsDataSample().set_gt_label(3)
    data = pickle.dumps(sample, protocol=0)
    assert b'mmpretrain.structures' in data
    for written in (data, data.replace(b'mmpretrain.structures', b'mmcls.structures')):
        assert type(pickle.loads(written)) is ClsDataSample


def test_mmengine_finds_the_package_and_no_distribution_is_made_up() -> None:
    assert is_installed('mmcls')
    assert get_installed_path('mmcls') == get_installed_path('mmpretrain')
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version('mmcls')


def test_config_inherits_from_mmcls(tmp_path: Path) -> None:
    config_file = tmp_path / 'config.py'
    config_file.write_text("_base_ = 'mmcls::resnet/resnet18_8xb32_in1k.py'\n")
    config = Config.fromfile(config_file)
    assert config.model.backbone.depth == 18
    assert config.model._scope_ == 'mmcls'
    model = MODELS.build(config.model)
    assert type(model).__module__.startswith('mmpretrain.')


def test_hub_reads_mmcls_configs() -> None:
    name = 'resnet/resnet18_8xb32_in1k.py'
    assert get_config(f'mmcls::{name}').model == get_config(f'mmpretrain::{name}').model
    with DefaultScope.overwrite_default_scope('mmrazor'):
        model = get_model(f'mmcls::{name}')
    assert type(model) is MODELS.get('mmpretrain.ImageClassifier')


def test_scope_mmcls_builds_from_mmpretrain() -> None:
    from mmpretrain.models import ImageClassifier

    assert MODELS.get('mmcls.ImageClassifier') is ImageClassifier
    for config in (
        dict(SMALL_CLASSIFIER, type='mmcls.ImageClassifier'),
        dict(SMALL_CLASSIFIER, _scope_='mmcls'),
    ):
        assert type(MODELS.build(config)) is ImageClassifier
    with DefaultScope.overwrite_default_scope('mmcls'):
        assert type(MODELS.build(dict(SMALL_CLASSIFIER))) is ImageClassifier


@pytest.mark.parametrize(
    'augment', [dict(type='mmcls.Mixup', alpha=1.0), dict(type='Mixup', alpha=1.0, _scope_='mmcls')]
)
def test_scope_mmcls_has_batch_augments(augment: dict, capfd: pytest.CaptureFixture) -> None:
    from mmcls.models.utils import RandomBatchAugment
    from mmpretrain.models import Mixup
    from mmpretrain.registry import BATCH_AUGMENTS

    assert type(RandomBatchAugment(dict(augment)).augments[0]) is Mixup
    assert 'Failed to search registry' not in ''.join(capfd.readouterr())
    assert BATCH_AUGMENTS.get('mmcls.NoSuchAugment') is None


def test_old_class_names_are_known_in_the_old_scope_only() -> None:
    from mmpretrain.datasets import PackInputs
    from mmpretrain.visualization import UniversalVisualizer

    assert TRANSFORMS.get('mmcls.PackClsInputs') is PackInputs
    assert VISUALIZERS.get('mmcls.ClsVisualizer') is UniversalVisualizer
    assert type(TRANSFORMS.build(dict(type='PackClsInputs', _scope_='mmcls'))) is PackInputs
    with pytest.raises(KeyError):
        TRANSFORMS.build(dict(type='mmpretrain.PackClsInputs'))


def test_a_module_registered_later_is_seen_from_both_scopes() -> None:
    from mmcls.registry import MODELS as OLD_MODELS

    @OLD_MODELS.register_module()
    class RegisteredThroughTheOldName:
        pass

    try:
        for scope in ('mmcls', 'mmpretrain'):
            found = MODELS.get(f'{scope}.RegisteredThroughTheOldName')
            assert found is RegisteredThroughTheOldName
    finally:
        del OLD_MODELS.module_dict['RegisteredThroughTheOldName']


def test_real_mmcls_is_left_alone(tmp_path: Path, run_python: Callable[..., str]) -> None:
    (tmp_path / 'site' / 'mmcls').mkdir(parents=True)
    (tmp_path / 'site' / 'mmcls' / '__init__.py').write_text("kind = 'real'\n")
    (tmp_path / 'site' / 'mmcls' / 'part.py').write_text("kind = 'real part'\n")
    printed = run_python(
        'enable()\nimport mmcls, mmcls.part\nprint(mmcls.kind, mmcls.part.kind)\n'
        'import importlib.util\nprint(importlib.util.find_spec("mmcls.models"))\n',
        compat_alone=True,
        path=(tmp_path / 'site',),
    )
    assert printed.splitlines() == ['real real part', 'None']


def test_a_mere_directory_called_mmcls_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'mmcls').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert MMClsAlias().find_spec('mmcls') is not None


def test_nothing_is_found_without_mmpretrain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmkdlayer.compat.mmcls_alias.find_spec', lambda name: None)
    assert MMClsAlias().find_spec('mmcls') is None


def test_enable_twice_installs_once() -> None:
    enable()
    before = list(sys.meta_path)
    enable()
    assert sys.meta_path == before
    assert sum(isinstance(finder, MMClsAlias) for finder in sys.meta_path) == 1


def test_classifier_is_built_in_the_scope_of_mmrazor() -> None:
    pytest.importorskip('mmrazor')
    from mmrazor.registry import MODELS as MMRAZOR_MODELS

    head = dict(type='mmcls.LinearClsHead', num_classes=2, in_channels=512)
    architecture = dict(
        type='mmcls.ImageClassifier',
        backbone=dict(type='mmcls.ResNet_CIFAR', depth=18),
        neck=dict(type='mmcls.GlobalAveragePooling'),
        head=head,
    )
    with DefaultScope.overwrite_default_scope('mmrazor'):
        model = MMRAZOR_MODELS.build(dict(type='BaseAlgorithm', architecture=architecture))
    assert type(model.data_preprocessor).__name__ == 'ClsDataPreprocessor'
