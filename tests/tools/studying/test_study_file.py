from __future__ import annotations

from pathlib import Path

import pytest

from mmkdlayer.errors import ConfigError
from studying.command_line import cfg_options_line
from studying.study_file import ROOT, read_study

STUDY = """
seeds = [0, 1]
base = 'configs/ablation/resnet56_resnet20_cifar100_student.py'
common = {'train_cfg.max_epochs': 3, 'train_dataloader': dict(batch_size=8)}
_own = 5
rows = dict(
    alone=dict(label='ResNet-20', quoted=69.06),
    short=dict(cfg_options={'train_cfg.max_epochs': 1}))
comparisons = [('alone', 'short')]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / 'study.py'
    path.write_text(text)
    return path


def test_defaults_reach_the_rows(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, STUDY))
    assert (study.name, study.seeds, study.comparisons) == ('study', (0, 1), (('alone', 'short'),))
    alone, short = study.rows['alone'], study.rows['short']
    assert alone.config == short.config
    assert Path(alone.config) == ROOT / 'configs/ablation/resnet56_resnet20_cifar100_student.py'
    assert alone.cfg_options == {'train_cfg.max_epochs': 3, 'train_dataloader.batch_size': 8}
    assert short.cfg_options == {'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 8}
    assert (alone.label, short.label, alone.quoted, short.quoted) == (
        'ResNet-20',
        'short',
        69.06,
        None,
    )


def test_a_row_changes_some_of_the_common_options(tmp_path: Path) -> None:
    row = "'train_dataloader': dict(num_workers=1), 'train_cfg': dict(max_epochs=2)"
    text = STUDY.replace("'train_cfg.max_epochs': 1", row)
    assert read_study(write(tmp_path, text)).rows['short'].cfg_options == {
        'train_cfg.max_epochs': 2,
        'train_dataloader.batch_size': 8,
        'train_dataloader.num_workers': 1,
    }


@pytest.mark.parametrize(
    'old, new, words',
    [
        ('seeds = [0, 1]', 'seeds = [0, 0]', ['seeds', 'each once']),
        ('seeds = [0, 1]', 'seed = [0, 1]', ["'seed'", 'seeds']),
        ("'alone', 'short')]", "'alone', 'shrot')]", ['shrot', 'alone, short']),
        ('quoted=69.06', "quoted='69.06'", ['rows.alone.quoted', "'69.06'"]),
        ('quoted=69.06', 'quotde=69.06', ['rows.alone', "'quotde'", 'quoted']),
        ('quoted=69.06', "teacher='big'", ['rows.alone.teacher', "'big'", 'none']),
        ('alone=dict(', "alone=dict(config='no.py', ", ['rows.alone', 'no config no.py']),
        ('_own = 5', "amp = 'float8'", ['amp', 'bfloat16', 'float8']),
        ('_own = 5', '_own = 5 +', ['study.py', 'SyntaxError']),
        ('_own = 5', 'title = 2026', ['study.py, title: expected str', '2026']),
        ('_own = 5', 'description = 3', ['description: expected str', '3']),
        ('_own = 5', 'metric = 5', ['metric: expected str', '5']),
        ('_own = 5', 'common = [1]', ['common: expected', '[1]']),
        ("comparisons = [('alone', 'short')]", 'comparisons = 5', ['comparisons: expected list']),
        ("comparisons = [('alone', 'short')]", 'comparisons = [5]', ['pairs of rows', 'found 5']),
        ('quoted=69.06', 'config=5', ['rows.alone.config: expected str', '5']),
        ('quoted=69.06', 'cfg_options=[1]', ['rows.alone.cfg_options: expected', '[1]']),
        ('quoted=69.06', 'stored=16', ['rows.alone.stored: expected', '16']),
        ('quoted=69.06', 'stored=dict(view=16)', ['rows.alone.stored', "'view'", 'views']),
        ('quoted=69.06', 'stored=dict(views=0)', ['rows.alone.stored', 'views=16']),
        ('_own = 5', "teachers = dict(t=dict(checkpoint='no.pth'))", ['t.checkpoint', 'no.pth']),
        ('_own = 5', 'teachers = dict(t=dict(checkpoint=5))', ['t.checkpoint: expected str']),
        ('_own = 5', 'teachers = dict(t=dict(config=base, seed=-3))', ['t.seed', '-3']),
        ('_own = 5', 'teachers = dict(t=dict(config=base, checkpoint="a"))', ['not trained']),
    ],
)
def test_errors_name_the_entry(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        read_study(write(tmp_path, STUDY.replace(old, new)))
    for word in words:
        assert word in str(error.value)


def test_options_that_a_command_line_changes_are_refused() -> None:
    options = {'a.b': 1, 'c': 'x', 'd': [1, 2.5], 'e': None, 'f': (True, 'y'), 'g': 1e-4, 'h': []}
    line = cfg_options_line(options, 'row r')
    assert line == [
        '--cfg-options',
        'a.b=1',
        'c=x',
        'd=[1,2.5]',
        'e=None',
        'f=(True,y)',
        'g=0.0001',
        'h=[]',
    ]
    for value in ('5', [{'type': 'Accuracy'}], ['a,b']):
        with pytest.raises(ConfigError, match='row r: h=.*command line'):
            cfg_options_line({'h': value}, 'row r')
