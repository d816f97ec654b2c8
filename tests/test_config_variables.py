"""Variables of a config: what is made from them follows them, and no environment variable is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import CONFIG, ROOT, write_images

from mmkdlayer.config_variables import read_config
from mmkdlayer.errors import ConfigError

CHILD = """
_base_ = {base!r}
image_size = 48
"""


def sizes(cfg) -> list:
    """Every size in the pipelines of a config of folder_example.py."""
    found = [cfg.train_dataloader.dataset.pipeline[2].crop_size]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        found += loader.dataset.pipeline[1].scale
    return found


def test_an_option_changes_all_that_is_made_from_it() -> None:
    assert sizes(read_config(CONFIG)) == [32] * 7
    cfg = read_config(CONFIG, {'image_size': 64, 'train_dataloader.batch_size': 3})
    assert sizes(cfg) == [64] * 7
    assert cfg.image_size == 64
    assert cfg.train_dataloader.dataset.pipeline[2].padding == 8
    assert cfg.train_dataloader.batch_size == 3
    assert sizes(read_config(CONFIG)) == [32] * 7


def test_a_config_based_on_it_changes_it_and_an_option_changes_that(tmp_path: Path) -> None:
    child = tmp_path / 'child.py'
    child.write_text(CHILD.format(base=str(CONFIG)))
    assert sizes(read_config(child)) == [48] * 7
    assert sizes(read_config(child, {'image_size': 16})) == [16] * 7


def test_the_environment_decides_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('IMAGE_SIZE', '64')
    monkeypatch.setenv('DATA_ROOT', str(write_images(tmp_path)))
    cfg = read_config(CONFIG)
    assert sizes(cfg) == [32] * 7
    assert cfg.data_root == 'data/folder'


def test_no_config_reads_the_environment() -> None:
    texts = [path.read_text() for path in (ROOT / 'configs').rglob('*.py')]
    assert len(texts) > 90
    assert not [text for text in texts if re.search(r'environ|getenv|\{\{\s*\$', text)]


def test_classes_are_those_of_the_data_root(tmp_path: Path) -> None:
    data = write_images(tmp_path / 'data', classes=5, train=1, test=1)
    cfg = read_config(CONFIG, data_root=str(data))
    assert cfg.model.architecture.head.num_classes == 5
    assert cfg.train_dataloader.dataset.data_root == str(data)


@pytest.mark.parametrize('value', ['64x', 64.0, None])
def test_wrong_type(value: object) -> None:
    with pytest.raises(ConfigError, match='image_size expects int, such as 32, but got'):
        read_config(CONFIG, {'image_size': value})


def test_a_variable_that_depends_on_itself(tmp_path: Path) -> None:
    (tmp_path / 'base.py').write_text(
        '_base_ = []\nfrom mmkdlayer.config_variables import config_variable\n'
        "a = config_variable('a', 1)\n"
    )
    (tmp_path / 'child.py').write_text("_base_ = './base.py'\na = _base_.a + 1\n")
    with pytest.raises(ConfigError, match=r"\['a'\] depends on itself"):
        read_config(tmp_path / 'child.py')
