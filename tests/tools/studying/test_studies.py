"""The studies of the paper's tables: every quoted figure is that of the page of pairs."""

from __future__ import annotations

import re

import pytest
from mmengine.config import Config

from mmkdlayer.config_variables import read_config
from studying.study_file import ROOT, read_study

PAGE = (ROOT / 'configs' / 'kdlayer' / 'README.md').read_text()
SUFFIXES = {'cifar100': 'cifar100', 'tinyimagenet': 'tinyimagenet', 'imagenet': 'in1k'}
COLUMNS = dict(alone=2, kd=3, quest=4, letkd1=5, letkd2=6)


@pytest.mark.parametrize('name, seeds', [('cifar100', 5), ('tinyimagenet', 3), ('imagenet', 1)])
def test_rows_are_those_of_the_page_of_pairs(name: str, seeds: int) -> None:
    study = read_study(ROOT / 'studies' / f'{name}.py')
    assert len(study.seeds) == seeds
    links = re.compile(rf'\((\w[^)]*)_{SUFFIXES[name]}\.py\) \|$')
    lines = [(m[1], line.split(' | ')) for line in PAGE.splitlines() if (m := links.search(line))]
    quoted = {}
    for pair, cells in lines:
        for row, column in COLUMNS.items():
            figure = re.match(r'[\d.]+', cells[column])
            if figure:
                quoted[f'{pair}_{row}'] = float(figure[0])
    found = {key: row.quoted for key, row in study.rows.items() if row.quoted is not None}
    assert found == quoted
    pairs = {key.rpartition('_')[0] for key in found}
    assert len(study.rows) == (4 if name == 'tinyimagenet' else 5) * len(pairs)


@pytest.mark.parametrize('kind', ['alone', 'kd'])
def test_baselines_of_a_pair_are_those_that_are_written_out(kind: str) -> None:
    pair = 'resnet56_resnet20_cifar100'
    found = read_config(ROOT / 'studies' / 'pairs' / f'{kind}.py', dict(pair=pair))
    name = dict(alone='student', kd='kd')[kind]
    expected = Config.fromfile(ROOT / 'configs' / 'ablation' / f'{pair}_{name}.py')
    keys = (
        'model',
        'train_dataloader',
        'optim_wrapper',
        'param_scheduler',
        'train_cfg',
        'custom_hooks',
    )
    for key in keys:
        assert found[key] == expected[key], key
    other = dict(pair='resnet110_resnet32_cifar100')
    assert read_config(ROOT / 'studies' / 'pairs' / f'{kind}.py', other).model != found.model
