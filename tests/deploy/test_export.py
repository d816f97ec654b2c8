"""Export of the student and its use where there is no teacher; checkpoints that do not fit."""

from __future__ import annotations

import os

import pytest
import torch
from mmengine.config import Config

from mmkdlayer import load_student
from mmkdlayer.deploy import export, export_student
from mmkdlayer.errors import CheckpointError, ConfigError


def contents(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_exported_student_gives_the_logits_of_the_trained_one(training, tmp_path, make_batch):
    out = tmp_path / 'new' / 'student'
    result = export_student(training.cfg, training.checkpoint, out)
    assert contents(out) == ['model_card.md', 'student.pth', 'student.py']
    assert result['config'] == out / 'student.py' and result['weights'] == out / 'student.pth'
    assert result['difference'] <= 1e-5
    student = load_student(out)
    assert not student.training
    inputs, _ = make_batch()
    expected = training.model.student(inputs)
    torch.testing.assert_close(student(inputs), expected, atol=1e-5, rtol=0)
    keys = torch.load(out / 'student.pth', weights_only=True)['state_dict'].keys()
    assert set(keys) == set(training.model.student.state_dict())
    assert 'kd_layers.inter.templates.weight' in keys


def test_exporting_again_replaces_both_files(training, tmp_path):
    out = tmp_path / 'student'
    for _ in range(2):
        export_student(training.cfg, training.checkpoint, str(out))
    assert contents(out) == ['model_card.md', 'student.pth', 'student.py']


def test_a_checkpoint_that_holds_the_teacher_too(training, tmp_path, make_batch):
    content = torch.load(training.checkpoint, weights_only=False)
    teacher = training.model.teacher.state_dict()
    content['state_dict'].update({f'teacher.{name}': value for name, value in teacher.items()})
    torch.save(content, training.checkpoint)
    export_student(training.cfg, training.checkpoint, tmp_path / 'out')
    inputs, _ = make_batch()
    expected = training.model.student(inputs)
    torch.testing.assert_close(load_student(tmp_path / 'out')(inputs), expected, atol=1e-5, rtol=0)


def test_an_exported_student_is_exported_again(training, tmp_path, make_batch):
    export_student(training.cfg, training.checkpoint, tmp_path / 'first')
    cfg = Config.fromfile(tmp_path / 'first' / 'student.py')
    export_student(cfg, tmp_path / 'first' / 'student.pth', tmp_path / 'second')
    inputs, _ = make_batch()
    first, second = (load_student(tmp_path / name) for name in ('first', 'second'))
    assert torch.equal(first(inputs), second(inputs))
    assert second._dataset_meta['classes'] == ['cat', 'dog', 'owl']


def test_files_that_only_training_needs_may_be_gone(training, tmp_path):
    training.cfg.model.teacher_ckpt = str(tmp_path / 'gone.pth')
    layers = training.cfg.model.distiller.kd_layers
    layers.inter.decision.file = str(tmp_path / 'gone.safetensors')
    export_student(training.cfg, training.checkpoint, tmp_path / 'out')
    assert layers.inter.decision.file  # the caller's config is as it was


def test_a_stock_architecture_by_path(
    training, tmp_path, make_distillation, distillation_config, make_config
):
    path = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    config = distillation_config(architecture=dict(cfg_path=path, pretrained=False))
    layers = config['distiller']['kd_layers']
    layers['inter'].update(module='backbone.layer4.0', in_channels=512)
    layers['penult'].update(module='backbone.layer4', in_channels=512)
    model = make_distillation(config)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'stock.pth')
    result = export_student(make_config(config), tmp_path / 'stock.pth', tmp_path / 'out')
    assert result['difference'] <= 1e-5
    student = load_student(tmp_path / 'out')
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    torch.testing.assert_close(student(images), model.student(images), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.pop('architecture.head.fc.weight'), r'1 missing \(head\.fc\.weight\)'),
        (
            lambda s: s.update({'architecture.extra': torch.ones(1)}),
            r'1 unknown \(extra\)',
        ),
        (
            lambda s: s.update({'architecture.head.fc.bias': torch.ones(9)}),
            r'head\.fc\.bias is \(9,\) there and \(3,\) in the model',
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if 'kd_layers' in k],
            r'18 missing \(kd_layers\.inter\.templates\.weight, .* and 15 more\)',
        ),
    ],
)
def test_a_checkpoint_of_another_architecture_writes_nothing(change, message, training, tmp_path):
    content = torch.load(training.checkpoint, weights_only=False)
    change(content['state_dict'])
    torch.save(content, training.checkpoint)
    with pytest.raises(CheckpointError, match=f'epoch_2.pth does not fit.*{message}'):
        export_student(training.cfg, training.checkpoint, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_config_of_another_architecture_writes_nothing(training, tmp_path):
    training.cfg.model.architecture.backbone.depth = 34
    with pytest.raises(CheckpointError, match='belongs to another architecture'):
        export_student(training.cfg, training.checkpoint, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_weights_that_are_not_finite_are_not_exported(training, tmp_path):
    content = torch.load(training.checkpoint, weights_only=False)
    content['state_dict']['architecture.head.fc.bias'].fill_(float('nan'))
    torch.save(content, training.checkpoint)
    with pytest.raises(CheckpointError, match='architecture.head.fc.bias holds NaN'):
        export_student(training.cfg, training.checkpoint, tmp_path / 'out')
    assert contents(tmp_path / 'out') == []


def test_logits_that_differ_are_not_exported(training, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    export_student(training.cfg, training.checkpoint, out)
    before = (out / 'student.pth').read_bytes()
    original = export.student_config

    def changed(cfg: Config) -> Config:
        student = original(cfg)
        student.model.kd_layers.penult.alpha = 0.6
        return student

    monkeypatch.setattr(export, 'student_config', changed)
    with pytest.raises(ConfigError, match='gives other logits than the training student'):
        export_student(training.cfg, training.checkpoint, out)
    assert contents(out) == ['model_card.md', 'student.pth', 'student.py']
    assert (out / 'student.pth').read_bytes() == before


def test_a_head_that_gives_no_tensor(make_distillation, distillation_config, make_config, tmp_path):
    config = distillation_config()
    head = config['architecture']['head']
    task = {key: value for key, value in head.items() if key != 'in_channels'}
    config['architecture']['head'] = dict(
        type='mmpretrain.MultiTaskHead', task_heads=dict(a=task, b=task), in_channels=16
    )
    model = make_distillation(config)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'tasks.pth')
    with pytest.raises(ConfigError, match='gives a dict in the place of logits'):
        export_student(make_config(config), tmp_path / 'tasks.pth', tmp_path / 'out')
    assert contents(tmp_path / 'out') == []


@pytest.mark.parametrize('content', [None, b'', b'not a checkpoint', 'half'])
def test_a_checkpoint_that_can_not_be_read(content, training, tmp_path):
    path = tmp_path / 'damaged.pth'
    if content == 'half':
        whole = training.checkpoint.read_bytes()
        content = whole[: len(whole) // 2]
    if content is not None:
        path.write_bytes(content)
    wanted = 'expected tensors and plain values' if content is not None else 'no such file'
    with pytest.raises(CheckpointError, match=rf'damaged\.pth: .*{wanted}'):
        export_student(training.cfg, path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_folder_that_can_not_be_written(training, tmp_path):
    (tmp_path / 'taken').write_text('a file')
    with pytest.raises(OSError, match='taken'):
        export_student(training.cfg, training.checkpoint, tmp_path / 'taken')


ALONE = """
import os, sys
sys.modules['mmrazor'] = None  # importing it raises ImportError
import torch
from mmkdlayer import load_student
from mmpretrain import ImageClassificationInferencer

student = load_student(sys.argv[1])
torch.save(student(torch.load(sys.argv[2], weights_only=True)), sys.argv[3])
import numpy as np
image = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
[result] = ImageClassificationInferencer(student)(image)
print('class:', result['pred_class'])
"""


def test_it_runs_where_there_is_no_teacher_and_no_mmrazor(
    training, tmp_path, run_script, make_batch
):
    export_student(training.cfg, training.checkpoint, tmp_path / 'out')
    os.unlink(training.checkpoint)
    inputs, _ = make_batch()
    torch.save(inputs, tmp_path / 'inputs.pth')
    files = [str(tmp_path / name) for name in ('out', 'inputs.pth', 'logits.pth')]
    printed = run_script(ALONE, *files)
    assert printed.split('class: ')[1].strip() in ('cat', 'dog', 'owl')
    logits = torch.load(tmp_path / 'logits.pth', weights_only=True)
    expected = training.model.student(inputs)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
