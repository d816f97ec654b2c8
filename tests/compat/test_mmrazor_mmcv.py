from __future__ import annotations

import types
from typing import Callable

import mmcv
import pytest

from mmkdlayer.compat.mmrazor_mmcv import run_with_known_mmcv

REFUSES_OTHERS = """
import mmcv
from mmengine.utils import digit_version
assert digit_version('2.0.0') <= digit_version(mmcv.__version__) <= digit_version('2.1.0')
seen = mmcv.__version__
"""


@pytest.mark.parametrize(
    ('installed', 'seen'),
    [('2.0.1', '2.0.1'), ('2.1.0', '2.1.0'), ('2.2.0', '2.1.0'), ('2.3.6', '2.1.0')],
)
def test_mmrazor_sees_no_version_that_it_refuses(
    monkeypatch: pytest.MonkeyPatch, installed: str, seen: str
) -> None:
    monkeypatch.setattr(mmcv, '__version__', installed)
    module = types.ModuleType('mmrazor')
    run_with_known_mmcv(module, lambda module: exec(REFUSES_OTHERS, vars(module)))
    assert module.seen == seen
    assert mmcv.__version__ == installed


def test_the_version_is_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmcv, '__version__', '2.2.0')

    def fail(module: types.ModuleType) -> None:
        raise ImportError('something else')

    with pytest.raises(ImportError, match='something else'):
        run_with_known_mmcv(types.ModuleType('mmrazor'), fail)
    assert mmcv.__version__ == '2.2.0'


def test_mmrazor_imports_with_a_newer_mmcv(run_python: Callable[..., str]) -> None:
    code = """
import mmcv
mmcv.__version__ = '2.2.0'
import mmkdlayer, mmrazor.models
print(mmcv.__version__, mmkdlayer.models.KDLayerDistiller.__mro__[1].__module__.split('.')[0])
"""
    assert run_python(code).split()[-2:] == ['2.2.0', 'mmrazor']
