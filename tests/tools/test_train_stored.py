"""Training on stored decisions by the command: on two processes, and from the config it has written."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import CONFIG, Main, arguments, recording_config, refused, run
from training_probes import read_losses


@pytest.fixture(scope='module')
def store(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('stores')
    given = ('--views', 2, '--out', folder / 'store', '--work-dir', folder / 'work')
    run('store_decisions.py', arguments(recording_config(folder), *given, data=images))
    return folder / 'store'


def test_two_processes_equal_one(images: Path, store: Path, tmp_path: Path) -> None:
    config = recording_config(tmp_path, "sync_bn = 'torch'")
    one, two = tmp_path / 'one', tmp_path / 'two'
    options = dict(data=images, train_cfg__max_epochs=2, model__teacher_ckpt='missing.pth')
    run('train.py', arguments(config, '--work-dir', one, '--stored', store, **options))
    options['train_dataloader__batch_size'] = 4
    line = arguments(config, 2, '--work-dir', two, '--stored', store, **options)
    output = run('dist_train.sh', line)
    assert 'no teacher is built, loaded or run' in output
    expected, found = read_losses(one), read_losses(two, ranks=2)
    for ours, theirs in zip(found[:3], expected):  # the last batch of an epoch is filled up
        assert ours.pop('images') == theirs.pop('images')
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)


def test_the_config_in_the_work_dir_goes_on(
    images: Path, store: Path, tmp_path: Path, main: Main
) -> None:
    work = tmp_path / 'work'
    config = recording_config(tmp_path)
    line = arguments(config, '--work-dir', work, '--stored', store, data=images)
    assert main('train.py', line)[0] == 0
    written = ['--cfg-options', 'train_cfg.max_epochs=2']
    code, errors = main('train.py', [str(work / 'recording.py'), '--resume', *written])
    assert code == 0, errors
    assert [line['iteration'] for line in read_losses(work)] == list(range(8))


def test_a_store_of_other_views_is_refused(
    images: Path, store: Path, tmp_path: Path, main: Main
) -> None:
    line = arguments(CONFIG, '--work-dir', tmp_path / 'w', '--stored', store, data=images)
    refused(main, tmp_path / 'w', line, 'drawn in another way', 'of the pipeline was')
