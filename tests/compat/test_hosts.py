from __future__ import annotations

import importlib.util
import sys
import warnings
from importlib.metadata import PackageNotFoundError
from typing import Callable

import pytest

from mmkdlayer import version as versions
from mmkdlayer.compat import hosts

OPENMMLAB = {'mmengine': '0.10.7', 'mmpretrain': '1.2.0', 'mmcv-lite': '2.1.0'}
ONEDL = {'onedl-mmengine': '0.10.12', 'onedl-mmpretrain': '1.3.6', 'onedl-mmcv': '2.3.6'}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Pretend that just these packages are installed, each with its version."""

    def pretend(packages: dict[str, str]) -> None:
        def version(package: str) -> str:
            if package not in packages:
                raise PackageNotFoundError(package)
            return packages[package]

        monkeypatch.setattr(versions, 'version', version)

    return pretend


@pytest.mark.parametrize(
    'packages',
    [OPENMMLAB, ONEDL, {**ONEDL, 'mmengine': '0.10.7'}, {}],
    ids=['openmmlab', 'onedl', 'both', 'modules without packages'],
)
def test_either_family_is_accepted_and_both_are_warned_about(
    install: Callable[[dict[str, str]], None], packages: dict[str, str]
) -> None:
    install(packages)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        hosts.check_hosts()
    messages = [str(one.message) for one in seen]
    assert len(messages) == ('mmengine' in packages and 'onedl-mmengine' in packages)
    assert all('pip uninstall -y mmengine onedl-mmengine' in message for message in messages)


@pytest.mark.parametrize('module', ['mmengine', 'mmpretrain'])
def test_a_missing_host_is_named_with_both_ways(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name == module else find_spec(name)
    )
    with pytest.raises(ImportError, match=f'needs the module {module}, but found none') as error:
        hosts.check_hosts()
    for extra in ('distill', 'onedl'):
        assert f'pip install "mmkdlayer[{extra}]"' in str(error.value)


@pytest.mark.parametrize(
    ('package', 'found', 'wanted'),
    [
        ('mmengine', '0.9.1', '0.10'),
        ('mmpretrain', '1.1.1', '1.2'),
        ('onedl-mmpretrain', '1.2', '1.3'),
    ],
)
def test_an_old_host_is_refused(
    install: Callable[[dict[str, str]], None], package: str, found: str, wanted: str
) -> None:
    install({package: found})
    with pytest.raises(ImportError, match=f'needs {package} {wanted} or later, but found {found}'):
        hosts.check_hosts()


def test_the_installed_family_is_found() -> None:
    for module in ('mmengine', 'mmpretrain', 'mmcv'):
        assert len(hosts.installed_providers(module)) == 1
