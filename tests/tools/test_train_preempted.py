"""Training that a signal ends: it saves, ends with code 75 and is resumed."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Callable

import pytest
from command_line import CONFIG, arguments, recording_config, run, start, write_images
from training_probes import read_losses

from mmkdlayer.checkpoints import read_checkpoint


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images: 12 batches of 4."""
    return write_images(tmp_path_factory.mktemp('data'), train=16)


def test_resumes_within_the_epoch(data: Path, tmp_path: Path) -> None:
    options = dict(
        data=data,
        train_dataloader__batch_size=4,
        train_dataloader__num_workers=2,
        optim_wrapper__accumulative_counts=2,
    )
    config = recording_config(tmp_path)
    run('train.py', arguments(config, '--work-dir', tmp_path / 'whole', **options))

    # SIGTERM, which a data worker would die of; gradients are half accumulated then.
    work = tmp_path / 'parts'
    config = recording_config(tmp_path, hook="dict(type='SendSignal', name='SIGTERM', iteration=4)")
    line = arguments(config, '--work-dir', work, '--resume', **options)
    process = start('train.py', line)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 75, output[-4000:]
    saved = re.findall(r'SIGTERM received: saved (\S+) after iteration (\d+)', output)
    assert saved in [[(str(work / 'interrupted.pth'), str(done))] for done in (6, 8)]
    done = int(saved[0][1])
    checkpoint = read_checkpoint(work / 'interrupted.pth')
    assert checkpoint['meta']['interrupted'] == dict(done=done, batches=12, seed=0)
    assert len((work / 'losses.0.jsonl').read_text().splitlines()) == done

    output = run('train.py', line)
    assert f'Resuming in epoch 1 after {done} of 12 iterations' in output
    assert f'Epoch(train) [1][{done + 1:2}/12]' in output
    expected, found = read_losses(tmp_path / 'whole'), read_losses(work)
    assert len(expected) == 12
    assert [line.pop('images') for line in found] == [line.pop('images') for line in expected]
    for ours, theirs in zip(found, expected):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert sorted(file.name for file in work.glob('*.pth')) == sorted(
        file.name for file in (tmp_path / 'whole').glob('*.pth')
    )


def test_signal_to_one_rank_ends_all_at_the_same_iteration(data: Path, tmp_path: Path) -> None:
    hook = "dict(type='SendSignal', name='SIGUSR1', iteration=1, rank=1)"
    config = recording_config(tmp_path, hook=hook)
    work = tmp_path / 'work'
    line = arguments(config, 2, '--work-dir', work, data=data, train_dataloader__batch_size=2)
    process = start('dist_train.sh', line)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert 'exitcode  : 75' in output, output[-4000:]
    done = int(
        re.findall(r'Signal to another process received: saved \S+ after iteration (\d+)', output)[
            0
        ]
    )
    assert 2 <= done < 12
    for rank in range(2):
        assert len((work / f'losses.{rank}.jsonl').read_text().splitlines()) == done
    assert read_checkpoint(work / 'interrupted.pth')['meta']['iter'] == done


def test_signal_while_fitting(tmp_path: Path, main: Callable) -> None:
    data = write_images(tmp_path / 'data', train=200)
    line = arguments(CONFIG, '--work-dir', tmp_path / 'w', data=data)
    line += ['train_dataloader.batch_size=1', 'val_dataloader.batch_size=1']
    line += ['train_dataloader.num_workers=1']
    process = start('fit_decisions.py', line, fork=False)  # with the end of a process of its own
    seen = ''
    assert process.stdout is not None
    while 'teacher pass 1' not in seen:
        piece = process.stdout.read(1)
        assert piece, seen[-4000:]
        seen += piece
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    while not (workers := children.read_text().split()):
        time.sleep(0.05)
    time.sleep(0.5)
    for worker in workers:  # which get it too, from Slurm or a terminal
        os.kill(int(worker), signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 75
    assert output.count('SIGTERM received') == 1
    assert 'Traceback' not in output
    assert main('fit_decisions.py', line)[0] == 0
