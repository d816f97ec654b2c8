from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from mmkdlayer.errors import ConfigError
from studying.planning import choose, plan
from studying.study_file import read_study
from studying.tasks import TASK, Task, read_object

STUDY = """
seeds = [3, 4]
base = 'configs/kdlayer/resnet56_resnet20_cifar100.py'
teachers = dict(
    big=dict(config='configs/teachers/resnet56_cifar100.py', seed=7),
    given=dict(checkpoint='README.md'))
rows = dict(
    letkd1=dict(config='configs/kdlayer/resnet56_resnet20_cifar100_letkd1.py', teacher='big'),
    letkd2=dict(teacher='big', amp='bfloat16'),
    small=dict(
        teacher='big',
        cfg_options={'model.distiller.kd_layers.penult.decision.num_centroids': 64}),
    soft=dict(
        teacher='big',
        cfg_options={'model.distiller.kd_layers.penult.decision.temperature': 0.1}),
    other=dict(teacher='given'),
    stored=dict(teacher='big', stored=dict(views=16)),
    stored_soft=dict(
        teacher='big', stored=dict(views=16),
        cfg_options={'model.distiller.kd_layers.penult.decision.temperature': 0.1}),
    alone=dict(config='configs/ablation/resnet56_resnet20_cifar100_student.py'))
""".replace('README.md', __file__)


@pytest.fixture(scope='module')
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    path = tmp_path_factory.mktemp('study') / 'study.py'
    path.write_text(STUDY)
    return {task.name: task for task in plan(read_study(path))[0]}


def out_dir(task: Task) -> str:
    return next(word for word in task.command if '.out_dir=' in word).split('=')[1]


def test_runs_follow_seed_by_seed(tasks: dict[str, Task]) -> None:
    names = list(tasks)
    rows = ['letkd1', 'letkd2', 'small', 'soft', 'other', 'stored', 'stored_soft', 'alone']
    assert names[0] == 'teachers/big'
    assert names[-16:] == [f'runs/{row}/seed{seed}' for seed in (3, 4) for row in rows]
    assert [tasks[name].kind for name in names[1:-16]] == ['fit', 'fit', 'fit', 'store', 'store']
    for name, seed in (('teachers/big', 7), ('runs/alone/seed3', 3), ('runs/small/seed4', 4)):
        assert f'randomness.seed={seed}' in tasks[name].command


def test_some_rows_come_with_what_they_wait_for(tasks: dict[str, Task]) -> None:
    settings = {
        name: Mock() for name in ('teachers/big', 'teachers/given', 'runs/stored', 'runs/alone')
    }
    chosen, kept = choose(list(tasks.values()), settings, ['stored', 'alone'])
    names = [task.name for task in chosen]
    assert [name.split('/')[0] for name in names] == [
        'teachers',
        'decisions',
        'stored',
        *['runs'] * 4,
    ]
    assert names[3:] == [f'runs/{row}/seed{seed}' for seed in (3, 4) for row in ('stored', 'alone')]
    assert all(set(task.needs) <= set(names) for task in chosen)
    assert list(kept) == ['teachers/big', 'runs/stored', 'runs/alone']
    with pytest.raises(
        ConfigError, match='--rows lonely: the study has no such row; it has letkd1, letkd2'
    ):
        choose(list(tasks.values()), settings, ['alone', 'lonely'])


def test_rows_share_decisions_where_they_are_the_same(tasks: dict[str, Task]) -> None:
    folders = {
        row: out_dir(tasks[f'runs/{row}/seed3'])
        for row in ('letkd1', 'letkd2', 'small', 'soft', 'other')
    }
    assert folders['letkd1'] == folders['letkd2'] == folders['soft']
    assert folders['letkd2'] == out_dir(tasks['runs/letkd2/seed4'])
    assert len(set(folders.values())) == 3
    for row, folder in folders.items():
        (fit,) = (n for n in tasks[f'runs/{row}/seed3'].needs if n.startswith('decisions/'))
        assert folder == f'{{out}}/{fit}/tables' == out_dir(tasks[fit])
        assert ('teachers/big' in tasks[fit].needs) == (row != 'other')
    # Fitted for the row that has both.
    assert 'resnet56_resnet20_cifar100.py' in tasks[tasks['runs/letkd1/seed3'].needs[-1]].command[1]


def test_teachers_reach_the_rows(tasks: dict[str, Task]) -> None:
    exported = 'model.teacher_ckpt={out}/teachers/big/exported/student.pth'
    assert exported in tasks['runs/letkd1/seed3'].command
    assert f'model.teacher_ckpt={__file__}' in tasks['runs/other/seed3'].command
    assert tasks['runs/alone/seed3'].needs == ()
    assert '--amp=bfloat16' in tasks['runs/letkd2/seed3'].command
    assert '--amp=bfloat16' not in ' '.join(tasks['runs/letkd1/seed3'].command)


def test_a_row_on_stored_decisions_waits_for_its_store(tasks: dict[str, Task]) -> None:
    run = tasks['runs/stored/seed3']
    (name,) = (need for need in run.needs if need.startswith('stored/'))
    store = tasks[name]
    assert store.command[0] == 'store_decisions.py'
    assert ' '.join(store.command).count('--views 16') == 1
    assert run.command[run.command.index('--stored') + 1] == f'{{out}}/{name}/store'
    assert store.needs == tasks['runs/letkd2/seed3'].needs


def test_identity_depends_on_config_and_seed_alone(tasks: dict[str, Task], tmp_path: Path) -> None:
    path = tmp_path / 'study.py'
    changed = STUDY.replace("num_centroids': 64", "num_centroids': 32").replace('[3, 4]', '[4, 5]')
    path.write_text(changed.replace('    letkd2=', "    more=dict(teacher='big'),\n    letkd2="))
    others = {task.name: task for task in plan(read_study(path))[0]}
    same = {
        name
        for name, task in others.items()
        if name in tasks and task.identity == tasks[name].identity
    }
    runs = {name for name in others if name.startswith('runs/') and name.endswith('seed4')}
    assert runs - same == {'runs/small/seed4', 'runs/more/seed4'}
    names = [f'runs/{row}/seed{seed}' for row in ('letkd1', 'letkd2') for seed in (3, 4)]
    identities = [tasks[name].identity for name in names]
    assert len(set(identities)) == 4
    task = tasks['runs/stored/seed3']
    task.write(tmp_path)
    assert not task.differs(read_object(task.folder(tmp_path) / TASK))
    assert tasks['runs/stored/seed4'].differs(read_object(task.folder(tmp_path) / TASK))
