"""Whole trainings by the training command: plain, resumed, in mixed precision, with NCCL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import CONFIG, Main, arguments, recording_config, start_ranks
from marks import devices
from training_probes import read_losses

from mmkdlayer.checkpoints import read_student_weights

pytest.importorskip('mmrazor', reason='distillation needs mmrazor')


@pytest.fixture(params=devices(slow_on_cpu=True))
def device(request: pytest.FixtureRequest) -> str:
    """The device that the command chooses."""
    return request.param


def test_training_resuming_and_testing(
    main: Main, images: Path, tmp_path: Path, device: str
) -> None:
    config, whole, resumed = recording_config(tmp_path), tmp_path / 'whole', tmp_path / 'resumed'
    for work, options in ((whole, ()), (resumed, ('--resume', whole / 'epoch_1.pth'))):
        line = arguments(config, *options, '--work-dir', work, data=images, train_cfg__max_epochs=2)
        code, errors = main('train.py', line)
        assert code == 0, errors
    assert device == 'cpu' or torch.cuda.max_memory_allocated() > 0
    found, expected = read_losses(resumed), read_losses(whole)[4:]
    assert [line['iteration'] for line in found] == [4, 5, 6, 7]
    for ours, theirs in zip(found, expected):
        assert ours['images'] == theirs['images']
        assert ours['loss'] == pytest.approx(theirs['loss'], rel=1e-2)
    trained = resumed / 'epoch_2.pth'
    line = arguments(config, trained, '--work-dir', tmp_path / 'test', data=images)
    code, errors = main('test.py', line)
    assert code == 0, errors


@pytest.mark.parametrize('amp', [('--amp',), ('--amp', 'bfloat16')], ids=' '.join)
def test_mixed_precision(
    amp: tuple[str, ...], main: Main, images: Path, tmp_path: Path, device: str
) -> None:
    config, work = recording_config(tmp_path), tmp_path / 'work'
    code, errors = main('train.py', arguments(config, '--work-dir', work, *amp, data=images))
    assert code == 0, errors
    assert len(read_losses(work)) == 4
    weights, _ = read_student_weights(work / 'epoch_1.pth')
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_one_process_with_a_launcher(images: Path, tmp_path: Path, device: str) -> None:
    """NCCL on a GPU, gloo on a CPU."""
    work = tmp_path / 'work'
    [process] = start_ranks(arguments(CONFIG, '--work-dir', work, data=images), ranks=1)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-4000:]
    assert (work / 'epoch_1.pth').exists()
    assert ("backend': 'nccl'" in output) == (device == 'cuda')
