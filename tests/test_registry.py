from __future__ import annotations

import mmengine.registry
import pytest
from mmengine.registry import Registry

import mmkdlayer
from mmkdlayer import registry

#: A type that the configs of this project name, in each of mmengine's registries that they use.
NAMED = [
    ('DATASETS', 'ImageNet', 'mmpretrain'),
    ('DATA_SAMPLERS', 'DefaultSampler', 'mmengine'),
    ('HOOKS', 'CheckpointHook', 'mmengine'),
    ('HOOKS', 'VisualizationHook', 'mmpretrain'),
    ('HOOKS', 'FitDecisionsHook', 'mmkdlayer'),
    ('LOOPS', 'EpochBasedTrainLoop', 'mmengine'),
    ('METRICS', 'Accuracy', 'mmpretrain'),
    ('MODELS', 'ImageClassifier', 'mmpretrain'),
    ('MODELS', 'KDLayerConnector', 'mmkdlayer'),
    ('OPTIMIZERS', 'SGD', 'torch'),
    ('OPTIM_WRAPPERS', 'OptimWrapper', 'mmengine'),
    ('PARAM_SCHEDULERS', 'MultiStepLR', 'mmengine'),
    ('TRANSFORMS', 'PackInputs', 'mmpretrain'),
    ('VISBACKENDS', 'LocalVisBackend', 'mmengine'),
    ('VISUALIZERS', 'UniversalVisualizer', 'mmpretrain'),
]


@pytest.mark.parametrize(('name', 'key', 'package'), NAMED)
def test_types_without_a_scope_are_found_in_the_scope_of_this_plugin(
    name: str, key: str, package: str
) -> None:
    root: Registry = getattr(mmengine.registry, name)
    with root.switch_scope_and_registry('mmkdlayer') as found:
        assert found.scope == 'mmkdlayer'
        assert found.get(key).__module__.split('.')[0] == package


def test_own_types_come_before_those_of_the_hosts() -> None:
    class ResNet:
        pass

    registry.MODELS.register_module(module=ResNet)
    try:
        assert registry.MODELS.get('ResNet') is ResNet
        assert registry.MODELS.get('mmpretrain.ResNet') is not ResNet
    finally:
        del registry.MODELS._module_dict['ResNet']


def test_an_unknown_type_is_refused_as_in_the_hosts() -> None:
    with pytest.raises(KeyError, match='NoSuchType is not in the'):
        registry.MODELS.build(dict(type='NoSuchType'))


def test_names_with_a_scope_go_their_usual_way() -> None:
    assert registry.MODELS.get('mmkdlayer.KDLayerConnector') is mmkdlayer.models.KDLayerConnector
    assert registry.HOOKS.get('mmengine.CheckpointHook').__module__.startswith('mmengine.')
