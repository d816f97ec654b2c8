"""A whole study: killed and resumed, its results and its page."""

from __future__ import annotations

import functools
import json
import random
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from command_line import Main
from study_runs import measured, run_and_kill, start_study, write_study

from mmkdlayer.checkpoints import read_checkpoint
from studying import running
from studying.one_task import FAILED
from studying.tasks import Task


@pytest.fixture(scope='module')
def study(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A study that was killed once and resumed: its file, its folder and its command line."""
    folder = tmp_path_factory.mktemp('study')
    path, out = write_study(folder, images), folder / 'out'
    line = [str(path), '--out', str(out), '--jobs', '2']
    saved = out / 'runs' / 'alone' / 'seed1' / 'epoch_1.pth'
    assert run_and_kill(line, saved.exists) is None
    assert start_study(line).wait() == 0
    return path, out, line


@pytest.fixture(scope='module')
def results(study: tuple[Path, Path, list[str]]) -> dict[str, Any]:
    return json.loads((study[1] / 'results.json').read_text())


def test_all_runs_are_there_and_one_was_resumed(results: dict[str, Any]) -> None:
    names = [f'runs/{row}/seed{seed}' for seed in (0, 1) for row in ('alone', 'letkd2')]
    assert [found['name'] for found in results['runs']] == names
    assert not results['failed']
    attempts = {found['name']: found['attempts'] for found in results['runs']}
    assert attempts['runs/alone/seed1'] == 2 and attempts['runs/letkd2/seed1'] == 1
    (preparation,) = results['preparations']
    assert preparation['kind'] == 'fit'
    for found in results['runs']:
        assert found['steps'] == 8 and found['step_seconds'] > 0
        assert set(found['cost']) >= {'flops', 'folded_flops', 'parameters', 'folded_parameters'}
        assert results['environments'][found['environment']]['versions']['torch']
    assert not re.search(r'(?<![\w}])/\w', json.dumps(results))  # no path of this machine


def test_results_are_those_of_the_commands(
    study: tuple[Path, Path, list[str]], results: dict[str, Any], tmp_path: Path, main: Main
) -> None:
    _, out, _ = study
    for name in ('runs/alone/seed1', 'runs/letkd2/seed0'):
        found = next(found for found in results['runs'] if found['name'] == name)
        task = json.loads((out / name / 'task.json').read_text())
        words = [word.replace('{out}', str(out)) for word in task['command'][1:]]
        words[words.index('--work-dir') + 1] = str(tmp_path / name)
        assert main('train.py', words)[0] == 0
        ours, theirs = (
            read_checkpoint(folder / name / 'epoch_2.pth')['state_dict']
            for folder in (out, tmp_path)
        )
        for key, value in theirs.items():
            assert ours[key].equal(value), key
        if name != 'runs/letkd2/seed0':
            continue
        metrics = tmp_path / 'metrics.json'
        assert found['accuracy'] == pytest.approx(_tested(main, words, tmp_path / name, metrics))


def _tested(main: Main, words: list[str], work: Path, metrics: Path) -> dict[str, float]:
    end = words.index('--cfg-options')
    root = words[words.index('--data-root') + 1]
    line = [words[0], str(work / 'epoch_2.pth'), '--work-dir', str(work / 'test')]
    line += ['--data-root', root, '--out', str(metrics), *words[end:]]
    assert main('test.py', line)[0] == 0
    return json.loads(metrics.read_text())


def test_page_has_the_numbers_of_the_results(
    study: tuple[Path, Path, list[str]], results: dict[str, Any], main: Main
) -> None:
    _, out, _ = study
    page = (out / 'page.md').read_text()
    values = {
        row: [
            found['accuracy']['accuracy/top1'] for found in results['runs'] if found['row'] == row
        ]
        for row in ('alone', 'letkd2')
    }
    mean = {row: sum(found) / 2 for row, found in values.items()}
    row = next(line for line in page.splitlines() if line.startswith('| letKD-2 |'))
    assert f'| {mean["letkd2"]:.2f} ±' in row
    assert '| 33.25 |' in next(line for line in page.splitlines() if line.startswith('| alone |'))
    difference = next(line for line in page.splitlines() if '− alone' in line)
    assert f'| {mean["letkd2"] - mean["alone"]:+.2f} |' in difference
    html = (out / 'page.html').read_text()
    assert html.count('<svg') == 3 and f'{mean["letkd2"]:.2f} ±' in html
    assert not re.search(r'(src|href)="(?!#)', html)  # needs no other file
    for name in ('page.md', 'page.html'):
        (out / name).unlink()
    assert main('study.py', [study[2][0], '--out', str(out), '--page-only'])[0] == 0
    assert ((out / 'page.md').read_text(), (out / 'page.html').read_text()) == (page, html)


def test_a_changed_run_is_refused(study: tuple[Path, Path, list[str]], main: Main) -> None:
    path, _, line = study
    text = path.read_text()
    path.write_text(text.replace("label='alone'", "label='new label', amp='bfloat16'"))
    try:
        code, errors = main('study.py', line)
    finally:
        path.write_text(text)
    assert code == 2
    assert 'runs/alone/seed0, runs/alone/seed1. Choose another --out' in errors


def test_rows_alone_keep_what_is_known_of_the_others(
    images: Path, tmp_path: Path, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def fail(task: Task, out: Path, *_: Any) -> Mock:
        begun.append(task.name)
        task.write(out)
        (task.folder(out) / FAILED).write_text(json.dumps(dict(code=2, reason=f'not {task.name}')))
        return Mock(poll=lambda: 2)

    monkeypatch.setattr(running, 'start', fail)
    line = [str(write_study(tmp_path, images)), '--out', str(tmp_path), '--rows']
    for row, expected in (
        ('alone', ['runs/alone/seed0', 'runs/alone/seed1']),
        ('letkd2', ['teachers/small']),
    ):
        begun.clear()
        assert main('study.py', [*line, row])[0] == 1
        assert begun == expected
    found = json.loads((tmp_path / 'results.json').read_text())
    assert found['planned'] == 5
    reasons = {failed['name']: failed['reason'] for failed in found['failed']}
    assert reasons['runs/alone/seed1'] == 'not runs/alone/seed1'
    assert reasons['runs/letkd2/seed0'].endswith('failed, which it needs')
    assert len(reasons) == 6  # four runs, the teacher, its decisions
    code, errors = main('study.py', [*line, 'alone', '--page-only'])
    assert code == 2 and '--page-only trains nothing' in errors


def has_logged(out: Path, steps: int) -> bool:
    """Whether the trainings of a study have logged so many steps, those included that were lost."""
    logs = out.glob('*/**/vis_data/scalars.json')
    return sum(path.read_text().count('"loss"') for path in logs) >= steps


@pytest.mark.slow
def test_ten_kills_change_nothing(images: Path, tmp_path: Path) -> None:
    options = dict(train_cfg__max_epochs=4, train_dataloader__batch_size=2)
    line = [str(write_study(tmp_path, images, **options)), '--jobs', '2', '--out']
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert start_study([*line, str(whole)]).wait() == 0
    rng, steps = random.Random(0), 0
    for _ in range(10):  # in five trainings of 60 steps
        steps += rng.randint(5, 30)
        when = functools.partial(has_logged, parts, steps)
        assert run_and_kill([*line, str(parts)], when, fork=False) is None
    assert start_study([*line, str(parts)]).wait() == 0
    found = [json.loads((out / 'results.json').read_text()) for out in (whole, parts)]
    assert measured(found[0]) == measured(found[1])
    runs = [*found[1]['teachers'], *found[1]['runs']]
    assert sum(run['attempts'] - 1 for run in runs) >= 10
