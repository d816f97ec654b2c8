"""What pip installs: the package's requirements and extras."""

from __future__ import annotations

import re
import runpy
from typing import Any

import pytest
import setuptools
from command_line import ROOT
from packaging.requirements import Requirement

FAMILIES = [{'mmengine', 'mmpretrain'}, {'onedl-mmengine', 'onedl-mmpretrain'}]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py gives to setuptools."""
    arguments: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **given: arguments.update(given))
    runpy.run_path(str(ROOT / 'setup.py'))
    return arguments


def names(requirements: list[str]) -> set[str]:
    return {Requirement(line).name for line in requirements}


def test_the_package_alone_forces_no_family_of_host_packages(given: dict[str, Any]) -> None:
    runtime = names(given['install_requires'])
    assert {'numpy', 'safetensors', 'torch'} <= runtime
    assert not any('mm' in name for name in runtime)


@pytest.mark.parametrize(
    ('extra', 'family'), [('distill', 0), ('lite', 0), ('all', 0), ('onedl', 1)]
)
def test_an_extra_brings_one_family_whole(given: dict[str, Any], extra: str, family: int) -> None:
    found = names(given['extras_require'][extra])
    assert found >= FAMILIES[family]
    assert not found & FAMILIES[1 - family]
    assert ('mmrazor' in found) == (extra != 'lite')
    # By itself mmcv-lite brings mmengine, and overwrites mmcv.
    assert ('mmcv-lite' in found) == (extra == 'lite')


def test_tensorboard_has_an_extra(given: dict[str, Any]) -> None:
    assert names(given['extras_require']['tensorboard']) == {'tensorboard'}
    assert 'tensorboard' in names(given['extras_require']['all'])


def test_every_extra_is_described(given: dict[str, Any]) -> None:
    page = (ROOT / 'docs' / 'install.md').read_text(encoding='utf-8')
    table = page[page.index('| extra | adds |') :].partition('\n\n')[0]
    first_cells = re.findall(r'^\|(.*?)\|', table, flags=re.M)
    assert set(re.findall(r'`(\w+)`', ' '.join(first_cells))) == set(given['extras_require'])


def test_each_file_of_requirements_is_used(given: dict[str, Any]) -> None:
    used = names([*given['install_requires'], *sum(given['extras_require'].values(), [])])
    for path in (ROOT / 'requirements').glob('*.txt'):
        lines = [line for line in path.read_text().splitlines() if line and line[0] != '#']
        assert names(lines) <= used, path.name
