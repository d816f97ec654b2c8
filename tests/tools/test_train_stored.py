"""Training on stored decisions by the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import CONFIG, ROOT, TINY, Main, arguments, recording_config, refused, run_ranks
from training_probes import read_losses

VIT = ROOT / 'configs' / 'kdlayer' / 'folder_example_vit.py'


def token_line(config: Path, *args: object, data: Path) -> list[str]:
    changes = {key: value for key, value in TINY.items() if not key.startswith('model.')}
    changes['train_dataloader.batch_size'] = 5
    for name, size in (('inter', 'num_subclasses=2'), ('penult', 'num_centroids=8')):
        key, value = f'model.distiller.kd_layers.{name}.decision.{size}'.split('=')
        changes[key] = value
    options = [f'{key}={value}' for key, value in changes.items()]
    return [str(config), *map(str, args), '--data-root', str(data), '--cfg-options', *options]


def test_resumed_equals_two_processes(images: Path, tmp_path: Path, main: Main) -> None:
    """The config that a training has written goes on; the teacher's checkpoint is not read."""
    config, store = recording_config(tmp_path, "sync_bn = 'torch'"), tmp_path / 'store'
    one, two = tmp_path / 'one', tmp_path / 'two'
    stored = ('--stored', store)
    line = arguments(config, '--views', 2, '--out', store, '--work-dir', one, data=images)
    assert main('store_decisions.py', line)[0] == 0
    changes = dict(model__teacher_ckpt='missing.pth', param_scheduler='None')
    line = arguments(config, '--work-dir', one, *stored, data=images, **changes)
    assert main('train.py', line)[0] == 0
    longer = ['--cfg-options', 'train_cfg.max_epochs=2']
    code, errors = main('train.py', [str(one / 'recording.py'), '--resume', *longer])
    assert code == 0, errors
    changes.update(train_dataloader__batch_size=4, train_cfg__max_epochs=2)
    codes, output = run_ranks(arguments(config, '--work-dir', two, *stored, data=images, **changes))
    assert codes == {0}, output[-4000:]
    assert 'no teacher is built, loaded or run' in output
    expected, found = read_losses(one), read_losses(two, ranks=2)
    assert [line['iteration'] for line in expected] == list(range(8))
    for index, (ours, theirs) in enumerate(zip(found, expected)):
        same = ours.pop('images') == theirs.pop('images')
        if index % 4 == 3:  # the last batch of an epoch is filled up
            break
        assert same and ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)

    line = arguments(CONFIG, '--work-dir', tmp_path / 'w', *stored, data=images)
    refused(main, tmp_path / 'w', line, 'drawn in another way', 'of the pipeline was')


def test_tokens_are_taught_as_by_the_teacher(images: Path, tmp_path: Path, main: Main) -> None:
    """Without random augmentation the views are the images that the teacher itself would see."""
    config = recording_config(tmp_path, config=VIT)
    first, live, stored = (tmp_path / name for name in ('first', 'live', 'stored'))
    for tool, *options in (
        ('store_decisions.py', '--views', 1, '--out', tmp_path / 'store', '--work-dir', first),
        ('train.py', '--work-dir', first),
        ('train.py', '--work-dir', live),
        ('train.py', '--work-dir', stored, '--stored', tmp_path / 'store'),
    ):
        line = token_line(config, *options, data=images)
        if live in options or stored in options:  # the same weights for both
            line.append(f'load_from={first / "epoch_1.pth"}')
        code, errors = main(tool, line)
        assert code == 0, errors
    expected, found = read_losses(live), read_losses(stored)
    assert len(found) == len(expected) == 6
    name = 'distill.loss_inter'
    assert found[0][name] == pytest.approx(expected[0][name], abs=1e-5)
    for ours, theirs in zip(found, expected):
        assert ours['images'] == theirs['images']
        assert ours['loss'] == pytest.approx(theirs['loss'], abs=0.1)  # of centroids left out
