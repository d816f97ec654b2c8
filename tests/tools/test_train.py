"""The one command: fits, trains, resumes, survives kill -9; then test and export of its result."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from command_line import CONFIG, arguments, run, start, write_images

from mmkdlayer.checkpoints import read_checkpoint
from mmkdlayer.models.decisions import read_decision_file


def kill_at(line: list[str], pattern: str) -> str:
    """Start a training, kill -9 it when its output matches, and return what it printed."""
    process = start('train.py', line)
    seen = ''
    assert process.stdout is not None
    while not re.search(pattern, seen):
        piece = process.stdout.read(1)
        assert piece, f'the training ended before {pattern!r}:\n{seen[-4000:]}'
        seen += piece
    process.send_signal(signal.SIGKILL)
    process.wait()
    return seen


def test_whole_chain(images: Path, tmp_path: Path) -> None:
    work = tmp_path / 'work'
    line = arguments(CONFIG, '--work-dir', work, data=images)
    output = run('train.py', line)
    assert 'Fitting the decisions' in output
    assert 'has its last change' not in output  # the schedule follows the number of epochs
    files = {name: work / 'decisions' / f'{name}.safetensors' for name in ('inter', 'penult')}
    provenance = read_decision_file(files['inter']).provenance
    assert provenance['layer']['source'] == 'backbone.layer3.0'
    assert provenance['data']['images'] == 30
    assert provenance['size'] == [4, 4]
    state = read_checkpoint(work / 'epoch_1.pth')['state_dict']
    assert {key.split('.')[0] for key in state} == {'architecture'}
    assert 'architecture.kd_layers.inter.templates.weight' in state

    written = {name: file.stat().st_mtime_ns for name, file in files.items()}
    resumed = run(
        'train.py',
        arguments(CONFIG, '--work-dir', work, '--resume', data=images, train_cfg__max_epochs=2),
    )
    assert 'Fitting the decisions' not in resumed
    assert resumed.count('reused') == 2
    assert 'resumed epoch: 1' in resumed
    assert written == {name: file.stat().st_mtime_ns for name, file in files.items()}
    validated = re.findall(r'accuracy/top1: (\d+\.\d+)', resumed)[-1]

    metrics = tmp_path / 'metrics.json'
    run(
        'test.py',
        arguments(
            CONFIG,
            work / 'epoch_2.pth',
            '--work-dir',
            tmp_path / 't',
            '--out',
            metrics,
            data=images,
        ),
    )
    assert json.loads(metrics.read_text())['accuracy/top1'] == pytest.approx(
        float(validated), abs=1e-3
    )

    folder = tmp_path / 'student'
    run('export_student.py', arguments(CONFIG, work / 'epoch_2.pth', '--out', folder, data=images))
    exported = tmp_path / 'exported.json'
    run(
        'test.py',
        [
            *map(str, (folder / 'student.py', folder / 'student.pth')),
            *map(str, ('--work-dir', tmp_path / 't', '--out', exported, '--data-root', images)),
        ],
    )
    assert json.loads(exported.read_text()) == json.loads(metrics.read_text())


def test_killed_while_fitting(tmp_path: Path) -> None:
    data = write_images(tmp_path / 'data', train=80)
    work = tmp_path / 'work'
    line = arguments(
        CONFIG,
        '--work-dir',
        work,
        data=data,
        train_dataloader__batch_size=1,
        val_dataloader__batch_size=1,
        custom_hooks__1__checkpoint_interval=0,
        train_cfg__max_epochs=1,
    )
    kill_at(line, r'teacher pass 2 of 2: +[1-9]')
    assert [file.name for file in (work / 'decisions').glob('*.safetensors')] == [
        'penult.safetensors'
    ]
    kept = (work / 'decisions' / 'penult.safetensors').read_bytes()
    output = run('train.py', line)
    assert re.search(r'Resuming the .* teacher pass 2, after [1-9]', output)
    assert 'teacher pass 1' not in output
    assert 'Decision "penult": reused' in output
    assert "Fitting the decisions ['inter']" in output
    assert (work / 'decisions' / 'penult.safetensors').read_bytes() == kept
    left = sorted(file.name for file in (work / 'decisions').glob('[!.]*'))
    assert left == ['inter.safetensors', 'penult.safetensors']


def test_killed_while_training(images: Path, tmp_path: Path) -> None:
    work = tmp_path / 'work'
    line = arguments(CONFIG, '--work-dir', work, data=images, train_cfg__max_epochs=3)
    kill_at(line, r'Epoch\(train\) +\[2\]\[2/')
    line = arguments(CONFIG, '--work-dir', work, '--resume', data=images, train_cfg__max_epochs=3)
    output = run('train.py', line)
    assert 'resumed epoch: 1' in output
    assert 'Fitting the decisions' not in output
    assert (work / 'epoch_3.pth').is_file()


def test_refits_for_another_teacher(images: Path, tmp_path: Path) -> None:
    work = tmp_path / 'work'
    run('train.py', arguments(CONFIG, '--work-dir', work, data=images))
    output = run('train.py', arguments(CONFIG, '--work-dir', work, data=images, randomness__seed=1))
    assert re.search(r'penult.safetensors is not used, it is fitted again: teacher is', output)
    assert "Fitting the decisions ['inter', 'penult']" in output
