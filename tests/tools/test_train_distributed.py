"""Training on two processes: it equals training on one, and ends when one of them does."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import (
    arguments,
    recording_config,
    run,
    run_ranks,
    start,
    start_ranks,
    write_images,
)
from training_probes import read_losses


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images: six batches of 8, or of two times 4."""
    return write_images(tmp_path_factory.mktemp('data'), train=16)


def two_processes(config: Path, *options: object, **changes: object) -> list[str]:
    """The command line of dist_train.sh."""
    return arguments(config, 2, *options, train_dataloader__batch_size=4, **changes)


def test_two_processes_equal_one(data: Path, tmp_path: Path) -> None:
    config = recording_config(tmp_path, "sync_bn = 'torch'")
    one, two = tmp_path / 'one', tmp_path / 'two'
    run('train.py', arguments(config, '--work-dir', one, data=data))
    output = run('dist_train.sh', two_processes(config, '--work-dir', two, data=data))
    assert 'Epoch(train) [1][2/6]' in output and (two / 'epoch_1.pth').is_file()
    assert 'Decision "penult": reused' in output
    expected, found = read_losses(one), read_losses(two, ranks=2)
    assert len(expected) == 6
    assert [line.pop('images') for line in found] == [line.pop('images') for line in expected]
    for ours, theirs in zip(found, expected):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_ranks_that_differ_end_before_anything_hangs(data: Path, tmp_path: Path) -> None:
    config = recording_config(
        tmp_path,
        'import os\n'
        "train_cfg = dict(max_epochs=1 + int(os.environ['RANK']))\n"
        "randomness = dict(seed=3 + int(os.environ['RANK']))",
    )
    line = arguments(config, '--work-dir', tmp_path / 'w', data=data)
    codes, output = run_ranks(line)
    assert 0 not in codes
    for words in ('randomness.seed is 3 on rank 0 and 4 on rank 1', 'were not given the same'):
        assert words in output, output[-4000:]
    assert 'lost contact' not in output


@pytest.mark.parametrize('stage', ['fitting', 'training'])
def test_killed_rank_ends_all(stage: str, data: Path, tmp_path: Path) -> None:
    if stage == 'training':
        more, hook = '', "dict(type='SendSignal', name='SIGKILL', iteration=2, rank=1)"
    else:
        more, hook = (
            "_base_.test_pipeline.insert(0, dict(type='DieOnRank', rank=1, image=9))\n"
            'val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))',
            '',
        )
    config = recording_config(tmp_path, more, hook)
    process = start('dist_train.sh', two_processes(config, '--work-dir', tmp_path / 'w', data=data))
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert 'Signal 9 (SIGKILL)' in output, output[-4000:]  # what torchrun says of rank 1
    # While fitting, rank 0 may be told to end by torchrun before it misses the other one.
    words = ['process 0 of 2 (from 0) lost contact with another one']
    words += ['SIGTERM received outside the training loop'] if stage == 'fitting' else []
    assert any(word in output for word in words), output[-4000:]
    assert ('Epoch(train) [1][3/6]' in output) == (stage == 'training')


def test_silent_rank_ends_the_others(data: Path, tmp_path: Path) -> None:
    config = recording_config(
        tmp_path, hook="dict(type='SendSignal', name='SIGSTOP', iteration=2, rank=1)"
    )
    processes = start_ranks(
        arguments(config, '--work-dir', tmp_path / 'w', '--dist-timeout', 8, data=data)
    )
    try:
        output, _ = processes[0].communicate(timeout=300)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert processes[0].returncode == 2, output[-4000:]
    message = output[output.rindex('\nerror: ') :]
    assert 'gave no sign for the time of --dist-timeout' in message
