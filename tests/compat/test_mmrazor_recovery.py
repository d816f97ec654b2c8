from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Callable

import pytest
import torch
from mmengine.registry import MODELS, Registry

from mmkdlayer.compat import mmrazor_recovery
from mmkdlayer.compat.mmrazor_recovery import recover_mmrazor

FIRST_MMRAZOR = """
failed = False
try:
    import mmrazor.models
except ImportError:
    failed = True
"""

USE_MMRAZOR = """
import mmrazor.datasets, mmrazor.engine, mmrazor.models
from mmrazor.datasets.transforms.formatting import PackCRDClsInputs
from mmrazor.models.losses.kd_soft_ce_loss import soft_cross_entropy
from mmrazor.registry import MODELS
from mmpretrain.datasets import PackInputs
from mmpretrain.models.losses.cross_entropy_loss import soft_cross_entropy as expected
assert issubclass(PackCRDClsInputs, PackInputs)
assert soft_cross_entropy is expected
assert MODELS.get('SingleTeacherDistill') is mmrazor.models.SingleTeacherDistill
assert MODELS.get('mmrazor.KLDivergence') is mmrazor.models.losses.KLDivergence
print('works')
"""


@pytest.mark.parametrize('first', ['', FIRST_MMRAZOR, 'import mmrazor\nimport mmrazor.registry\n'])
def test_mmrazor_works_in_either_import_order(first: str, run_python: Callable[..., str]) -> None:
    assert run_python(f'{first}\nimport mmkdlayer\n{USE_MMRAZOR}').strip() == 'works'


@pytest.fixture
def half_imported(monkeypatch: pytest.MonkeyPatch, without_mmrazor: None) -> Registry:
    """State after a failed import: ``mmrazor.models`` is gone, its submodule stayed."""
    registry = Registry('model', scope='mmrazor')
    registry._imported = True
    monkeypatch.setattr(mmrazor_recovery, '_registries', lambda: [registry])
    for name in ('mmrazor', 'mmrazor.registry', 'mmrazor.models.losses', 'mmrazor.version'):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules['mmrazor'].registry = sys.modules['mmrazor.registry']
    left_over = type('LeftOver', (), dict(__module__='mmrazor.models.losses'))
    registry.register_module(module=left_over)
    registry.register_module(module=torch.nn.ReLU)
    registry.register_module(module=type('OfTheUser', (), dict(__module__='my_project')))
    return registry


def test_left_overs_of_a_failed_import_go(half_imported: Registry) -> None:
    recover_mmrazor()
    kept = {name for name in sys.modules if name.split('.')[0] == 'mmrazor'}
    assert kept == {'mmrazor', 'mmrazor.registry', 'mmrazor.version'}
    assert list(half_imported.module_dict) == ['OfTheUser']
    assert half_imported._imported is False


def test_a_whole_import_stays(half_imported: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'mmrazor.models', types.ModuleType('mmrazor.models'))
    recover_mmrazor()
    assert 'mmrazor.models.losses' in sys.modules
    assert set(half_imported.module_dict) == {'LeftOver', 'ReLU', 'OfTheUser'}


@pytest.mark.usefixtures('half_imported')
def test_placeholders_of_a_whole_import_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # mmrazor's own placeholders, from its file: its registries exist once in a process.
    directory = Path(importlib.metadata.distribution('mmrazor').locate_file('mmrazor'))
    spec = importlib.util.spec_from_file_location(
        'mmrazor.utils.placeholder', directory / 'utils' / 'placeholder.py'
    )
    placeholder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(placeholder)
    package, module = types.ModuleType('mmrazor.models'), sys.modules['mmrazor.models.losses']
    monkeypatch.setitem(sys.modules, 'mmrazor.models', package)
    module.Missing = placeholder.get_placeholder('mmdet')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        recover_mmrazor()
    module.soft_cross_entropy = placeholder.get_placeholder('mmcls')
    with pytest.warns(UserWarning, match=r'\(mmrazor.models.losses\).*import mmkdlayer first'):
        recover_mmrazor()


def test_registries_reach_the_scopes() -> None:
    found = list(mmrazor_recovery._registries())
    assert MODELS in found
    assert all(child in found for child in MODELS.children.values())
