from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hub import get_config
from mmengine.utils import get_installed_path, is_installed

import mmkdlayer

PACKAGE = Path(mmkdlayer.__file__).parent


def test_the_folder_is_that_of_the_package_in_use() -> None:
    # Not that of an installed package of the same name.
    name = MODULE2PACKAGE['mmkdlayer']
    assert is_installed(name)
    assert Path(get_installed_path(name)) == PACKAGE


@pytest.mark.skipif(
    not (PACKAGE / '.mim').exists(), reason='installing makes .mim; tests/test_wheel.py installs'
)
def test_configs_of_this_package_can_be_inherited(tmp_path: Path) -> None:
    config = tmp_path / 'mine.py'
    config.write_text("_base_ = 'mmkdlayer::kdlayer/resnet34_resnet18_in1k.py'\nseed = 3\n")
    inherited = Config.fromfile(config)
    assert inherited.seed == 3
    assert 'inter' in inherited.model.distiller.kd_layers
    found = get_config('mmkdlayer::kdlayer/resnet34_resnet18_in1k.py')
    assert found.model.distiller == inherited.model.distiller
