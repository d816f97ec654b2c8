from __future__ import annotations

import sys
import types
import warnings
from typing import Callable

import pytest

from mmkdlayer.compat.mmrazor_import_order import check_import_order

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


@pytest.mark.parametrize('first', ['', 'import mmrazor\nimport mmrazor.registry\n'])
def test_mmrazor_works_where_its_package_alone_came_first(
    first: str, run_python: Callable[..., str]
) -> None:
    # The notice that mmpretrain.datasets prints is kept back too.
    assert run_python(f'{first}\nimport mmkdlayer\n{USE_MMRAZOR}') == 'works\n'


def pretend(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


@pytest.mark.usefixtures('without_mmrazor')
def test_an_import_that_failed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """``mmrazor.models`` is gone, its submodule stayed."""
    pretend(monkeypatch, 'mmrazor', 'mmrazor.registry', 'mmrazor.models.losses')
    with pytest.raises(
        ImportError, match='failed halfway.*Start Python again, and import mmkdlayer'
    ):
        check_import_order()


@pytest.mark.usefixtures('without_mmrazor')
def test_a_whole_import_before(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 'mmrazor', 'mmrazor.models', 'mmcls')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_import_order()
    monkeypatch.delitem(sys.modules, 'mmcls')
    with pytest.warns(
        UserWarning, match='mmcls is not installed. If you need it, import mmkdlayer'
    ):
        check_import_order()
