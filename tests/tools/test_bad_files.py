"""Checkpoints and decision files of other kinds: one paragraph, by every command that reads them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command_line import CONFIG, Main, arguments, refused

from mmkdlayer.models import CentroidDecision
from mmkdlayer.models.decisions import read_decision_file, write_decision_file


class Program:
    def __reduce__(self) -> tuple:
        return os.mkdir, ('somewhere',)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / 'work'


@pytest.mark.parametrize(
    ('place', 'content', 'words'),
    [
        ('teacher_ckpt', [1, 2], 'but found a list'),
        ('teacher_ckpt', dict(state_dict={'a': 'text'}), 'expected a state dict'),
        ('teacher_ckpt', dict(args=SimpleNamespace()), 'types.SimpleNamespace, which can run any'),
        ('pretrained', dict(meta=Program()), 'posix.mkdir, which can run any code'),
    ],
    ids=['list', 'string', 'class', 'program'],
)
def test_teachers(
    main: Main, images: Path, work: Path, tmp_path: Path, place: str, content: Any, words: str
) -> None:
    path = tmp_path / 'teacher.pth'
    torch.save(content, path)
    option = dict(model__teacher_ckpt=path)
    if place == 'pretrained':
        prefix = 'model__teacher__init_cfg__'
        option = {f'{prefix}type': 'Pretrained', f'{prefix}checkpoint': path}
    line = arguments(CONFIG, '--work-dir', work, data=images, **option)
    message = refused(main, work, line, 'teacher.pth', words)
    assert 'truncated' not in message and 'weights_only' not in message and '\x1b' not in message


def changed(earlier: Path, path: Path, **entries: Any) -> Path:
    """A checkpoint of the earlier training with other entries."""
    content = torch.load(earlier / 'epoch_1.pth', weights_only=True)
    torch.save({**content, **entries}, path)
    return path


@pytest.mark.parametrize(
    ('tool', 'meta'), [('train.py', ['epoch']), ('test.py', 'text'), ('export_student.py', ['a'])]
)
def test_meta_data_of_another_type(
    main: Main, images: Path, earlier: Path, work: Path, tmp_path: Path, tool: str, meta: Any
) -> None:
    path = changed(earlier, tmp_path / 'c.pth', meta=meta)
    out = '--out' if tool == 'export_student.py' else '--work-dir'
    given = ('--resume', path) if tool == 'train.py' else (path,)
    line = arguments(CONFIG, *given, out, work, data=images)
    refused(main, work, line, "c.pth: expected a dict as the entry 'meta'", tool=tool)


def test_a_student_of_nan_is_not_resumed(
    main: Main, images: Path, earlier: Path, work: Path, tmp_path: Path
) -> None:
    state = torch.load(earlier / 'epoch_1.pth', weights_only=True)['state_dict']
    state['architecture.head.fc.bias'][1] = torch.nan
    path = changed(earlier, tmp_path / 'c.pth', state_dict=state)
    line = arguments(CONFIG, '--work-dir', work, '--resume', path, data=images)
    refused(main, work, line, 'c.pth', 'architecture.head.fc.bias holds NaN')


def test_a_distillation_is_no_teacher(main: Main, images: Path, earlier: Path, work: Path) -> None:
    path = earlier / 'epoch_1.pth'
    line = arguments(CONFIG, '--work-dir', work, data=images, model__teacher_ckpt=path)
    refused(main, work, line, 'the checkpoint of a distillation', f'export_student CONFIG {path}')


def test_beginning_with_weights_of_other_layers(
    main: Main, images: Path, earlier: Path, work: Path
) -> None:
    other = dict(model__distiller__kd_layers__penult__decision__num_centroids=9)
    path = earlier / 'epoch_1.pth'
    line = arguments(CONFIG, '--work-dir', work, '--resume', path, data=images, **other)
    refused(main, work, line, 'start from does not fit', '--init-from FILE')
    line = arguments(CONFIG, '--work-dir', work / '2', '--init-from', path, data=images, **other)
    code, errors = main('train.py', line)
    assert code == 0, errors
    (log,) = work.glob('2/*/*.log')
    assert '(8, 16, 1, 1) there and (9, 16, 1, 1) in the model' in log.read_text()


def test_a_decision_whose_logits_overflow(
    main: Main, images: Path, earlier: Path, work: Path, tmp_path: Path
) -> None:
    content = read_decision_file(earlier / 'decisions' / 'penult.safetensors')
    content.tables['centroids'][0, 0] = 3e38
    write_decision_file(tmp_path / 'p.safetensors', content)
    given = dict(model__distiller__kd_layers__penult__decision__file=tmp_path / 'p.safetensors')
    line = arguments(CONFIG, '--work-dir', work, data=images, **given)
    refused(main, work, line, 'p.safetensors: its tables do not fit', 'float32 holds no larger')


def test_a_stored_decision_with_other_provenance_is_fitted_again(
    main: Main, images: Path, earlier: Path, work: Path
) -> None:
    (work / 'decisions').mkdir(parents=True)
    path = work / 'decisions' / 'penult.safetensors'
    content = read_decision_file(earlier / 'decisions' / 'penult.safetensors')
    expected = content.tables['centroids']
    content.provenance['teacher'] = 'resnet50.pth'
    write_decision_file(path, content)
    code, errors = main('train.py', arguments(CONFIG, '--work-dir', work, data=images))
    assert code == 0, errors
    assert torch.equal(CentroidDecision.load(path).centroids, expected)
