from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import Callable

import pytest

from mmkdlayer.compat import checks


def _pretend_mmcv(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    fake = types.ModuleType('mmcv')
    fake.__version__ = version
    monkeypatch.setitem(sys.modules, 'mmcv', fake)


@pytest.mark.parametrize('version', ['2.0.0', '2.0.1', '2.1.0', '2.2.0', '2.3.6'])
def test_supported_mmcv_is_accepted(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    _pretend_mmcv(monkeypatch, version)
    checks.check_mmcv()


@pytest.mark.parametrize('version', ['1.7.2', '2.0.0rc4', '2.4.0', '3.0.0', 'unknown'])
def test_other_mmcv_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    _pretend_mmcv(monkeypatch, version)
    with pytest.raises(ImportError) as error:
        checks.check_mmcv()
    message = str(error.value)
    assert version in message
    assert '"mmcv-lite>=2.0.0,<=2.1.0"' in message
    assert '\n' not in message


def test_missing_mmcv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='found none. Run: pip install .*"mmcv-lite'):
        checks.check_mmcv()


@pytest.mark.parametrize(
    ('cause', 'advice'),
    [
        ('libGL.so.1: cannot open shared object file', 'opencv-python-headless'),
        ("cannot import name 'x'", 'mmcv-lite>='),
    ],
)
def test_broken_mmcv_tells_what_to_install(
    monkeypatch: pytest.MonkeyPatch, cause: str, advice: str
) -> None:
    def fail(name: str) -> None:
        raise ImportError(cause)

    monkeypatch.setattr(importlib, 'import_module', fail)
    with pytest.raises(ImportError) as error:
        checks.check_mmcv()
    assert cause in str(error.value)
    assert advice in str(error.value).split('Run:')[1]


def test_beside_onedl_mmcv_lite_is_installed_without_what_it_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, 'installed_providers', lambda module: {'onedl-mmengine': '0.10.12'})
    _pretend_mmcv(monkeypatch, '1.7.2')
    with pytest.raises(ImportError, match='pip install --no-deps "mmcv-lite') as error:
        checks.check_mmcv()
    assert 'onedl-mmcv' in str(error.value)


def _openmmlab(package: str) -> None:
    import pkg_resources  # noqa: F401  (as mmengine 0.10.7 does)


def _onedl(package: str) -> None:
    from importlib.metadata import version  # noqa: F401  (as onedl-mmengine 0.10.12 does)


@pytest.mark.parametrize(('is_installed', 'warns'), [(_openmmlab, True), (_onedl, False)])
def test_missing_pkg_resources_is_warned_about_where_it_is_used(
    monkeypatch: pytest.MonkeyPatch, is_installed: Callable[[str], None], warns: bool
) -> None:
    monkeypatch.setattr(checks, 'is_installed', is_installed)
    monkeypatch.delitem(sys.modules, 'pkg_resources', raising=False)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        checks.check_pkg_resources()
    assert ['pip install "setuptools<81"' in str(one.message) for one in seen] == [True] * warns


@pytest.mark.parametrize(
    'text',
    [
        'pkg_resources is deprecated as an API. See somewhere.',
        'Fail to import ``MultiScaleDeformableAttention`` from ``mmcv.ops``',
    ],
)
def test_known_notices_are_silenced_after_the_users_filters(text: str) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        checks.silence_known_notices()
        warnings.warn(text, UserWarning, stacklevel=1)
        assert not seen
        warnings.simplefilter('error')
        checks.silence_known_notices()
        with pytest.raises(UserWarning):
            warnings.warn(text, UserWarning, stacklevel=1)


def test_other_warnings_are_heard() -> None:
    checks.silence_known_notices()
    with pytest.warns(UserWarning, match='something else'):
        warnings.warn('something else', UserWarning, stacklevel=1)
