"""Options that change a config: nothing that is stated is without effect."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from command_line import CONFIG, ROOT

import cli
from mmkdlayer.errors import ConfigError, DataError

TWO_ROOTS = """
_base_ = {base!r}
{loader} = dict(dataset=dict(data_root='other'))
"""


def load(config: Path, root: str | None = None, **options: object):
    changes = {key.replace('__', '.'): value for key, value in options.items()}
    return cli.load_config(
        argparse.Namespace(config=str(config), data_root=root, cfg_options=changes)
    )


def test_data_root_is_for_all_data_sets(tmp_path: Path) -> None:
    cfg = load(ROOT / 'configs' / 'kdlayer' / 'resnet34_resnet18_in1k.py', str(tmp_path))
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert cfg[loader].dataset.data_root == str(tmp_path)


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_data_root_for_data_sets_with_different_roots(tmp_path: Path, loader: str) -> None:
    base = str(ROOT / 'configs' / 'kdlayer' / 'resnet56_resnet20_tinyimagenet.py')
    config = tmp_path / 'config.py'
    config.write_text(TWO_ROOTS.format(base=base, loader=loader))
    with pytest.raises(ConfigError, match=f'{loader}.dataset.data_root=other'):
        load(config, str(tmp_path))
    cfg = load(config, str(tmp_path), **{f'{loader}__dataset__data_root': 'given'})
    assert cfg[loader].dataset.data_root == 'given'


def test_two_data_sets_of_one_loader_with_different_roots(tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(CONFIG)!r}\n'
        "one = dict(type='CustomDataset', data_root='a', data_prefix='x', pipeline=[])\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', "
        "datasets=[one, dict(one, data_root='b')]))\n"
    )
    with pytest.raises(ConfigError, match='expected one data root for all data sets.*datasets.1'):
        load(config, str(tmp_path))


def test_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'photos/train/cat').mkdir(parents=True)
    cfg = load(CONFIG, '~/photos')
    assert cfg.train_dataloader.dataset.data_root == str(tmp_path / 'photos')
    assert load(CONFIG, data_root='~/photos').classes == ['cat']
    config = ROOT / 'configs/kdlayer/resnet34_resnet18_in1k.py'
    cfg = load(config, train_dataloader__dataset__data_root='~/photos')
    assert cfg.train_dataloader.dataset.data_root == str(tmp_path / 'photos')


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('test_pipeline', 'nothing reads test_pipeline after the config is made'),
        ('custom_imports.imports', 'would change nothing: the modules are imported as the file is'),
        ('launcher', 'would change nothing: the option --launcher'),
        ('optim_wraper__optimizer__lr', 'Near matches: optim_wrapper'),
    ],
)
def test_option_that_nothing_reads(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(CONFIG, str(tmp_path), **{name: 1})


def test_options_that_are_read(tmp_path: Path) -> None:
    cfg = load(CONFIG, str(tmp_path), sync_bn='torch', compile=True, image_size=16, work_dir='x')
    assert (cfg.sync_bn, cfg.compile, cfg.image_size, cfg.work_dir) == ('torch', True, 16, 'x')


def test_the_config_of_a_training_needs_no_data(tmp_path: Path) -> None:
    """Its classes are written out: a checkpoint is exported on another machine with it."""
    for name in ('cat', 'cow', 'dog'):
        (tmp_path / 'data/train' / name).mkdir(parents=True)
    written = tmp_path / 'written.py'
    load(CONFIG, str(tmp_path / 'data')).dump(written)
    (tmp_path / 'data').rename(tmp_path / 'gone')
    assert load(written).model.architecture.head.num_classes == 3
    with pytest.raises(DataError, match='takes its classes from the folders of the data'):
        load(CONFIG, str(tmp_path / 'data'))


def parse(*options: str) -> dict:
    parser = argparse.ArgumentParser()
    cli.add_common_options(parser)
    return parser.parse_args(['--cfg-options', *options]).cfg_options


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('my photos/epoch 1.pth', 'my photos/epoch 1.pth'),
        ("'my photos'", 'my photos'),
        ('1e-3', 0.001),
        ('None', None),
        ('true', True),
        ('3, 8', [3, 8]),
        ('[(a, b), 1]', [('a', 'b'), 1]),
        ('', ''),
        ('x=y', 'x=y'),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse(f'a.b={text}', 'c=1') == {'a.b': value, 'c': 1}


def test_the_name_of_a_file_is_no_list(tmp_path: Path) -> None:
    file = tmp_path / 'cats, dogs (2).pth'
    file.touch()
    assert parse(f'a={file}') == {'a': str(file)}


@pytest.mark.parametrize(
    'options', [['a.b', '=', '1'], ['a.b', '1'], ['a.b =1'], ['=1'], ['a=[1,2']]
)
def test_no_key_and_value(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        parse(*options)
    assert info.value.code == 2
    error = capsys.readouterr().err
    assert 'KEY=VALUE, with no space' in error or 'a=[1,2: Imbalanced brackets' in error


def test_a_key_without_its_place() -> None:
    with pytest.raises(ConfigError, match=r'Near matches: train_cfg.max_epochs\.'):
        load(CONFIG, max_epochs=1)
