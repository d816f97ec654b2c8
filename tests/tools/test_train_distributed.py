"""Training on two processes: it equals training on one, and ends when one of them does."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import arguments, recording_config, run, write_images
from training_probes import read_losses

STEPS = 4


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images: three batches of 8, or of two times 4."""
    return write_images(tmp_path_factory.mktemp('data'), train=8)


def test_two_processes_equal_one(data: Path, tmp_path: Path) -> None:
    config = recording_config(tmp_path, "sync_bn = 'torch'")
    options = dict(data=data, train_cfg__max_epochs=2)
    one, two = tmp_path / 'one', tmp_path / 'two'
    run('train.py', arguments(config, '--work-dir', one, **options))
    line = arguments(config, 2, '--work-dir', two, train_dataloader__batch_size=4, **options)
    output = run('dist_train.sh', line)
    assert 'Decision "penult": reused' in output
    expected, found = read_losses(one), read_losses(two, ranks=2)
    assert len(expected) == 6
    assert [line.pop('images') for line in found] == [line.pop('images') for line in expected]
    for ours, theirs in zip(found[:STEPS], expected):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    # Without SyncBN the same comparison fails: it is not blind.
    apart = tmp_path / 'apart'
    line = arguments(config, 2, '--work-dir', apart, train_dataloader__batch_size=4, **options)
    run('dist_train.sh', [*line, 'sync_bn=None'])
    assert read_losses(apart, ranks=2)[0]['distill.loss_penult'] != pytest.approx(
        expected[0]['distill.loss_penult'], rel=1e-4
    )
