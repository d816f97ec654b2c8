"""Checkpoints of a training with mmengine's EMAHook: averaged weights, and those of the last step."""

from __future__ import annotations

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmkdlayer import load_student
from mmkdlayer.checkpoints import read_checkpoint, read_student_weights
from mmkdlayer.deploy import ExportOptions, export_student
from mmkdlayer.errors import CheckpointError

MOMENTUM, STEPS = 0.25, 3


class Batch(Dataset):
    def __init__(self, inputs, samples):
        self.items = list(zip(inputs, samples))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        inputs, sample = self.items[index]
        return dict(inputs=inputs, data_samples=sample)


@pytest.fixture
def averaged(training, make_batch, tmp_path):
    """A distillation of three steps with EMAHook: its checkpoint, and the weights after each step."""
    model = training.model
    steps = []

    def note(module, *_):
        steps.append({key: value.clone() for key, value in module.student.state_dict().items()})

    runner = Runner(
        model=model,
        work_dir=str(tmp_path / 'work'),
        train_dataloader=dict(
            batch_size=4,
            dataset=Batch(*make_batch(4)),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=STEPS),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.2)),
        custom_hooks=[dict(type='EMAHook', momentum=MOMENTUM, priority='NORMAL')],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
        default_scope='mmpretrain',
        log_level='ERROR',
        experiment_name=tmp_path.name,
    )
    # the student before the second step, the third, ... is the one after the first, the second, ...
    model.register_forward_pre_hook(note)
    runner.train()
    note(model)
    return training._replace(checkpoint=tmp_path / 'work' / f'iter_{STEPS}.pth'), steps[1:]


def exported(case, folder, ema):
    training, _ = case
    export_student(training.cfg, training.checkpoint, folder, ExportOptions(ema=ema))
    return load_student(folder).state_dict(), (folder / 'model_card.md').read_text()


def test_averaged_weights_and_those_of_the_last_step(averaged, tmp_path):
    _, steps = averaged
    assert len(steps) == STEPS
    expected = {False: steps[-1]}
    mean = dict(steps[0])
    for step in steps[1:]:
        mean = {key: (1 - MOMENTUM) * mean[key] + MOMENTUM * step[key] for key in step}
    # EMAHook averages parameters, and takes the statistics of batch norms as they are
    expected[True] = {
        key: step if 'running' in key or 'num_batches' in key else mean[key]
        for key, step in steps[-1].items()
    }
    for key in ('head.fc.weight', 'kd_layers.inter.templates.weight', 'backbone.conv1.weight'):
        assert not torch.allclose(mean[key], steps[-1][key], atol=1e-4)
    for ema in (None, True, False):
        state, page = exported(averaged, tmp_path / str(ema), ema)
        assert set(state) == set(steps[-1])
        for key, value in expected[ema is not False].items():
            torch.testing.assert_close(state[key], value, msg=key)
        assert f'({"weights of the last step" if ema is False else "averaged weights"})' in page


def test_a_checkpoint_without_averaged_weights(training, tmp_path):
    with pytest.raises(
        CheckpointError, match=r'expected averaged weights.*no ema_state_dict.*EMAHook'
    ):
        read_student_weights(training.checkpoint, ema=True)
    plain, meta = read_student_weights(training.checkpoint, ema=False)
    assert plain.keys() == read_student_weights(training.checkpoint)[0].keys()
    assert 'averaged' not in meta
    assert 'ema_state_dict' not in read_checkpoint(training.checkpoint)


def test_weights_saved_from_within_a_wrapper(training, tmp_path):
    expected, _ = read_student_weights(training.checkpoint)
    state = read_checkpoint(training.checkpoint)['state_dict']
    torch.save({f'module.{key}': value for key, value in state.items()}, tmp_path / 'wrapped.pth')
    found, _ = read_student_weights(tmp_path / 'wrapped.pth')
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_student_that_a_launcher_wrapped(training, tmp_path):
    """mmrazor's data-free recipes wrap student and generator, not the whole model."""
    student = training.model.student.state_dict()
    state = {f'architecture.module.{key}': value for key, value in student.items()}
    path = tmp_path / 'iter_1.pth'
    torch.save(dict(state_dict={**state, 'generator.module.weight': torch.ones(1)}), path)
    found, _ = read_student_weights(path)
    assert list(found) == list(student)
    assert all(torch.equal(found[key], value) for key, value in student.items())
