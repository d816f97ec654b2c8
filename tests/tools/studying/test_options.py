"""Options that can't be used together, and what a study makes of the files in its folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest
from command_line import Main
from study_runs import pretended_task

from mmkdlayer.errors import CheckpointError, ConfigError, DataError
from studying import cluster
from studying.cluster import Arrays
from studying.finishing import METRICS, export_and_test
from studying.results import check_metric, check_name, read_results
from studying.running import Board
from studying.tasks import TASK, Task, check_begun

STUDY = """
seeds = [0]
rows = dict(alone=dict(config='configs/ablation/resnet56_resnet20_cifar100_student.py'))
"""


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--page-only', '--dry-run'], '--dry-run does nothing'),
        (['--sbatch=--gpus=1'], '--sbatch=--gpus=1 expects --launcher slurm'),
        (['--launcher=slurm', "--sbatch=--comment='x"], "--comment='x: No closing quotation"),
        (['--out', 'com,ma/out'], 'com,ma/out: with a comma'),
        (['--out', 'a[1'], 'with a comma or a bracket'),
    ],
)
def test_options_that_can_not_be_used(
    tmp_path: Path, main: Main, options: list[str], words: str
) -> None:
    (tmp_path / 'study.py').write_text(STUDY)
    line = [str(tmp_path / 'study.py'), '--out', str(tmp_path / 'out'), *options]
    code, errors = main('study.py', line)
    assert code == 2 and words in errors
    assert not (tmp_path / 'out').exists()


def test_checkpoints_of_what_is_done_are_removed_too(
    tmp_path: Path, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'study.py').write_text(STUDY)
    monkeypatch.setattr('studying.running.start', pretended_task)
    line = [str(tmp_path / 'study.py'), '--out', str(tmp_path / 'out')]
    assert main('study.py', line)[0] == 0
    saved = tmp_path / 'out' / 'runs' / 'alone' / 'seed0' / 'epoch_1.pth'
    saved.touch()
    assert main('study.py', line)[0] == 0
    assert saved.exists()
    assert main('study.py', [*line, '--delete-checkpoints'])[0] == 0
    assert not saved.exists()


@pytest.mark.parametrize('text', ['', '{"name": ', '[]'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    task = Task('runs/a/seed0', 'train', (), identity='a')
    folder = task.folder(tmp_path)
    pretended_task(task, tmp_path)
    for name in (TASK, 'result.json'):
        whole = (folder / name).read_text()
        (folder / name).write_text(text)
        with pytest.raises(DataError, match=rf'{folder / name} is damaged.*Remove it'):
            check_begun([task], tmp_path)
        (folder / name).write_text(whole)
    (folder / 'result.json').unlink()
    (folder / 'failed.json').write_text(text)
    board = Board(tmp_path, [task])
    board.settle(task.name)
    assert f'{folder / "failed.json"} is damaged' in board.failed[task.name]


def test_a_damaged_measurement_is_made_again(tmp_path: Path) -> None:
    nothing = Mock()
    (tmp_path / METRICS).write_text('{"accuracy/top1": 1.0}')
    export_and_test({}, tmp_path, tmp_path, nothing)
    (tmp_path / METRICS).write_text('{"accuracy')
    with pytest.raises(CheckpointError):  # it exports again, of which there is none here
        export_and_test({}, tmp_path, tmp_path, nothing)


def test_results_of_another_study_stay(tmp_path: Path) -> None:
    check_name('a', tmp_path)
    (tmp_path / 'results.json').write_text('{"format": 1}')
    with pytest.raises(DataError, match='has no study, title'):
        read_results(tmp_path)
    keys = ('title', 'description', 'metric', 'seeds', 'comparisons', 'rows', 'teacher_rows')
    keys += ('planned', 'written', 'environments', 'teachers', 'preparations', 'runs', 'failed')
    content = dict(dict.fromkeys(keys), format=1, study='a')
    (tmp_path / 'results.json').write_text(json.dumps(content))
    check_name('a', tmp_path)
    with pytest.raises(ConfigError, match='has the results of the study a, which those of b'):
        check_name('b', tmp_path)


def test_a_metric_that_no_run_has() -> None:
    run = dict(name='runs/a/seed0', accuracy={'accuracy/top1': 1.0, 'accuracy/top5': 2.0})
    check_metric(dict(metric='accuracy/top1', runs=[run]))
    with pytest.raises(DataError, match="no 'acc/top1'.* but accuracy/top1, accuracy/top5"):
        check_metric(dict(metric='acc/top1', runs=[run]))


def test_a_folder_of_any_name_gets_the_output_of_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    done = subprocess.CompletedProcess([], 0, '', '')
    monkeypatch.setattr(cluster, 'call', lambda line: lines.append(line) or done)
    arrays = Arrays(tmp_path / 'a 5%', ['--gpus=1'], None)
    arrays.submit([Task('runs/a/seed0', 'train', ())])
    assert f'--output={tmp_path}/a 5%%/slurm/%x-%a.out' in lines[0]
    assert '--output' not in Path(lines[0][-1]).read_text()
